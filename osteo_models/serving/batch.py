"""Scores of image files as tables: one row per image and one per patient; no file is dropped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from osteo_models.core.errors import InputError
from osteo_models.core.terms import Modality
from osteo_models.serving.predict import LoadedVersion, Prediction, predict_path

SCORE_COLUMNS: Final = ("score", "decision", "uncertainty", "agreement")
IMAGE_COLUMNS: Final = ("file", "patient_id", "modality", *SCORE_COLUMNS, "ood", "reason", "model", "version")
PATIENT_COLUMNS: Final = ("patient_id", "images", *SCORE_COLUMNS, "model", "version")


@dataclass(frozen=True)
class Scores:
    """Scores of image files.

    Attributes:
        images: One row per file: `file`, `patient_id`, `modality`, `score` (probability of osteoporosis in [0, 1]),
            `decision`, `uncertainty` and `agreement` (fold ensembles only), `ood` (why the image is out of
            distribution), `reason` (why it was not scored), `model`, `version`.
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
    version: LoadedVersion, folder: Path, out: Path, *, modality: Modality | None = None, allow_ood: bool = False
) -> Prediction:
    """Score every file of a folder and write a table of images to `out`, and a table of patients next to it.

    A file that was not scored has a row with its reason. For the arguments see `predict_path`.

    Raises:
        InputError: No such folder, or nothing could be scored, which the written table explains.
    """
    prediction = predict_path(version, folder, modality, allow_ood=allow_ood, allow_none=True)
    tabulate_scores(prediction).write(out)
    if not prediction.images:
        first = prediction.refused[0]
        found = f"none of {len(prediction.refused)} files could be scored, such as {first.file}: {first.reason}"
        raise InputError(found, where=str(folder), remedy=f"the reasons are in {out}")
    return prediction


def patients_path(out: Path) -> Path:
    """Path of the table of patients."""
    return out.with_name(f"{out.stem}-patients{out.suffix}")


def tabulate_scores(prediction: Prediction) -> Scores:
    """Tables of a prediction: one row per file, with the reason where it was not scored, and one row per patient."""
    scored = [asdict(image) for image in [*prediction.images, *prediction.refused]]
    rows = sorted(scored, key=lambda row: row["file"])
    patients = [asdict(patient) for patient in prediction.patients]
    origin = {"model": prediction.model, "version": prediction.version}
    images = pd.DataFrame(rows, columns=list(IMAGE_COLUMNS)).assign(**origin)
    return Scores(images, pd.DataFrame(patients, columns=list(PATIENT_COLUMNS)).assign(**origin))
