"""`osteo score`: the images of a folder to tables, one row per image and one per patient; nothing is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

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
    _write(out, IMAGE_COLUMNS, _image_rows(said), said)
    _write(patients_path(out), PATIENT_COLUMNS, (asdict(patient) for patient in said.patients), said)
    if not said.images:
        first = said.refused[0]
        found = f"none of {len(said.refused)} files could be scored, such as {first.file}: {first.reason}"
        raise InputError(found, where=str(folder), remedy=f"the reasons are in {out}")
    return said


def patients_path(out: Path) -> Path:
    """Where the table of patients lies."""
    return out.with_name(f"{out.stem}-patients{out.suffix}")


def _image_rows(said: Prediction) -> Iterator[dict[str, Any]]:
    rows = [asdict(image) for image in said.images] + [asdict(refused) for refused in said.refused]
    yield from sorted(rows, key=lambda row: row["file"])


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[dict[str, Any]], said: Prediction) -> None:
    table = pd.DataFrame([{**row, "model": said.model, "version": said.version} for row in rows], columns=list(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
