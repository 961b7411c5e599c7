"""The images of the cases, and where the vertebrae are in them, which the phantom alone can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from osteo_models.data.frames import read_frame
from osteo_models.data.phantom import vertebra_mask
from osteo_models.data.prepare import prepare_mask
from osteo_models.errors import StaleDataError
from osteo_models.explain.cases import Case
from osteo_models.params import Prepare, Synthetic

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """The image of a case.

    Shapes:
        pixels: (80, 60), as the network sees it; mask: the same, 255 where a pixel is all vertebra, None if unknown.
    """

    case: Case
    pixels: Grey
    mask: Grey | None


@dataclass(frozen=True, eq=False)
class Scenery:
    """The cohort that cases come from.

    Shapes:
        pixels: (N, 80, 60); row i belongs to row i of `images`.

    Args:
        images: images.csv.
        dicom: Folder that its paths are relative to.
        synthetic: What the phantom made the cohort with; None for real data.
    """

    images: pd.DataFrame
    pixels: Grey
    dicom: Path
    synthetic: Synthetic | None

    def find(self, case: Case, prepare: Prepare) -> Scene:
        """The image of a case, and its vertebrae cut out as the image was.

        Raises:
            StaleDataError: The cohort has no such image.
            ImageError: The image file cannot be read.
        """
        rows = np.flatnonzero(self.images["image_id"] == case.image_id)
        if not rows.size:
            remedy = "the predictions are of other images; run `dvc repro experiments`"
            raise StaleDataError(f"no image {case.image_id}", where="images.csv", remedy=remedy)
        row = int(rows[0])
        return Scene(case, self.pixels[row], self._find_vertebrae(row, prepare))

    def _find_vertebrae(self, row: int, prepare: Prepare) -> Grey | None:
        if self.synthetic is None:
            return None
        image_id, path = self.images["image_id"].iloc[row], self.dicom / self.images["path"].iloc[row]
        labels = vertebra_mask(image_id, seed=self.synthetic.seed, scale=self.synthetic.scale)
        return prepare_mask(path.read_bytes(), labels > 0, prepare=prepare, where=str(path))


def read_scenery(artifacts: Path, dicom: Path, synthetic: Synthetic | None) -> Scenery:
    """Read the prepared cohort."""
    folder = artifacts / "cohort"
    return Scenery(read_frame(folder / "images.csv"), np.load(folder / "images.npy", mmap_mode="r"), dicom, synthetic)
