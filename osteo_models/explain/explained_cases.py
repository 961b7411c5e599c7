"""The images to explain, chosen from the saved predictions alone, so that reruns can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from osteo_models.core.errors import StaleDataError
from osteo_models.core.params import Prepare
from osteo_models.core.terms import CONTROL, MODALITIES, OSTEOPOROSIS, Modality, decide
from osteo_models.data.data_folder import IMAGES, VERTEBRAE
from osteo_models.data.image_file import read_label_map
from osteo_models.data.prepare import prepare_mask
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import Predictions

Kind = Literal["correct", "worst_error"]

CORRECT_PER_CLASS: Final = 1
ERRORS: Final = 2
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """One image to explain.

    Args:
        score: Probability of osteoporosis.
        decision: The class at the model's threshold.
    """

    image_id: str
    patient_id: str
    modality: Modality
    target: int
    score: float
    decision: int
    kind: Kind


def choose_cases(predictions: Predictions, threshold: float) -> list[Case]:
    """For each modality the most confident correct answer of each class, and the two worst errors.

    Each case is of another patient, because slices of one patient are similar; ties are broken by the image's name.
    With fewer such images there are fewer cases.

    Args:
        predictions: Predictions of one network on its hold-out.
        threshold: Scores from here on are decided as osteoporosis.
    """
    decision = decide(predictions.score, threshold).astype(np.int64)
    correct = decision == predictions.target
    # Distance of a score from the true class: smallest for the most confident correct, largest for the worst errors.
    error = np.abs(predictions.score - predictions.target)
    cases: list[Case] = []
    for modality in MODALITIES:
        of_modality = predictions.modality == modality
        for target in (CONTROL, OSTEOPOROSIS):
            rows = _first(predictions, of_modality & correct & (predictions.target == target), error, CORRECT_PER_CLASS)
            cases += [_case(predictions, row, modality, int(decision[row]), "correct") for row in rows]
        rows = _first(predictions, of_modality & ~correct, -error, ERRORS)
        cases += [_case(predictions, row, modality, int(decision[row]), "worst_error") for row in rows]
    return cases


def _first(
    predictions: Predictions, mask: npt.NDArray[np.bool_], order: npt.NDArray[np.float64], count: int
) -> list[int]:
    """The first rows of the mask in an order, one of each patient."""
    rows = sorted(np.flatnonzero(mask).tolist(), key=lambda row: (order[row], str(predictions.image_id[row])))
    chosen: dict[str, int] = {}
    for row in rows:
        chosen.setdefault(str(predictions.patient_id[row]), row)
    return list(chosen.values())[:count]


def _case(predictions: Predictions, row: int, modality: Modality, decision: int, kind: Kind) -> Case:
    return Case(
        image_id=str(predictions.image_id[row]),
        patient_id=str(predictions.patient_id[row]),
        modality=modality,
        target=int(predictions.target[row]),
        score=float(predictions.score[row]),
        decision=decision,
        kind=kind,
    )


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
        data: The data set; without label maps of vertebrae, no scene has a mask.
    """

    images: pd.DataFrame
    pixels: Grey
    data: Path

    def find(self, case: Case, prepare: Prepare) -> Scene:
        """The image of a case, and its vertebrae cut out as the image was.

        Raises:
            StaleDataError: The cohort has no such image.
            ImageError: The image file or its label map cannot be read, or their sizes differ.
        """
        rows = np.flatnonzero(self.images["image_id"] == case.image_id)
        if not rows.size:
            remedy = "the predictions are of other images; run `dvc repro experiments`"
            raise StaleDataError(f"no image {case.image_id}", where="images.csv", remedy=remedy)
        row = int(rows[0])
        return Scene(case, self.pixels[row], self._find_vertebrae(row, prepare))

    def _find_vertebrae(self, row: int, prepare: Prepare) -> Grey | None:
        path = Path(self.images["path"].iloc[row])
        image, labels = self.data / IMAGES / path, self.data / VERTEBRAE / path.with_suffix(".png")
        if not labels.is_file():
            return None
        mask = read_label_map(labels.read_bytes(), where=str(labels)) > 0
        return prepare_mask(image.read_bytes(), mask, prepare=prepare, where=str(image))


def read_scenery(artifacts: Path, data: Path) -> Scenery:
    """Read the prepared cohort."""
    folder = artifacts / "cohort"
    return Scenery(read_frame(folder / "images.csv"), np.load(folder / "images.npy", mmap_mode="r"), data)
