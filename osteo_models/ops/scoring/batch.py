"""`osteo score`: the images of a folder to tables, one row per image and one per patient; nothing is dropped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from osteo_models.core.errors import InputError
from osteo_models.core.terms import Modality
from osteo_models.ops.scoring.predict import Prediction, predict_path
from osteo_models.registry.tracking import Tracking

IMAGE_COLUMNS: Final = (
    *("file", "patient_id", "modality", "score", "decision", "uncertainty", "agreement", "unlike", "reason"),
    *("model", "version"),
)
PATIENT_COLUMNS: Final = (
    *("patient_id", "images", "score", "decision", "uncertainty", "agreement", "model", "version"),
)


@dataclass(frozen=True)
class Scores:
    """Scores of image files.

    Attributes:
        images: One row per file: `file`, `patient_id`, `modality`, `score` (probability of osteoporosis in [0, 1]),
            `decision`, `uncertainty` and `agreement` (fold ensembles only), `unlike` (why the image differs from the
            training images), `reason` (why it was not scored), `model`, `version`.
        patients: One row per patient: the mean score over the images, with the same columns and the number of `images`.
    """

    images: pd.DataFrame
    patients: pd.DataFrame

    def write(self, out: Path | str) -> None:
        """Write both tables as CSV files: the images to `out`, the patients next to it, to `<out>-patients.csv`."""
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.images.to_csv(path, index=False)
        self.patients.to_csv(patients_path(path), index=False)


def score_folder(
    tracking: Tracking,
    folder: Path,
    reference: str,
    out: Path,
    *,
    modality: Modality | None = None,
    accept_unlike: bool = False,
) -> Prediction:
    """Score every file of a folder and write the tables.

    Args:
        tracking: The store.
        folder: Searched with all below it.
        reference: As in `predict_path`.
        out: The table of images; a file that was not scored has a row with its reason. The table of patients lies
            beside it, at `patients_path(out)`.
        modality: Of PNG and JPEG files.
        accept_unlike: Score also what does not look like the training images.

    Raises:
        InputError: No such folder or version; or nothing could be scored, which the written table explains.
    """
    said = predict_path(tracking, folder, reference, modality, accept_unlike=accept_unlike, allow_none=True)
    tabulate_scores(said).write(out)
    if not said.images:
        first = said.refused[0]
        found = f"none of {len(said.refused)} files could be scored, such as {first.file}: {first.reason}"
        raise InputError(found, where=str(folder), remedy=f"the reasons are in {out}")
    return said


def patients_path(out: Path) -> Path:
    """Where the table of patients lies."""
    return out.with_name(f"{out.stem}-patients{out.suffix}")


def tabulate_scores(prediction: Prediction) -> Scores:
    """Tables of a prediction: one row per file, with the reason where it was not scored, and one row per patient."""
    scored = [asdict(image) for image in prediction.images] + [asdict(refused) for refused in prediction.refused]
    rows = sorted(scored, key=lambda row: row["file"])
    patients = [asdict(patient) for patient in prediction.patients]
    images = pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))
    origin = {"model": prediction.model, "version": prediction.version}
    return Scores(images.assign(**origin), pd.DataFrame(patients, columns=list(PATIENT_COLUMNS)).assign(**origin))
