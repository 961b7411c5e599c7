"""Withdrawal: a person's images and rows are removed, and later imports refuse the person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_models.core.errors import InputError
from osteo_models.data.data_folder import IMAGES, VERTEBRAE, Staging, read_rows, write_rows

WITHDRAWN = "withdrawn.csv"
TABLES = ("clinical.csv", "intake.csv", "images.csv", "splits.csv", "decisions.csv")


@dataclass(frozen=True)
class Withdrawal:
    """Number of images and table rows that were removed."""

    patient_id: str
    images: int
    rows: int


def withdraw_patient(
    data: Path,
    patient_id: str,
    *,
    on_built: Callable[[Path], object] = lambda _: None,
    record: Callable[[], object] = lambda: None,
) -> Withdrawal:
    """Take a person out of the data set on disk; a later import refuses the person's images.

    An import that was killed begins from the start next time: it may hold images of the person.

    Args:
        data: The data set.
        patient_id: The pseudonym.
        on_built: Called with the folder of the successor before it takes the place of the data set.
        record: Called at the end, before another process may change the data set; also where the person was taken
            out before.

    Returns:
        What was taken out: nothing, where it was done before.

    Raises:
        InputError: The data set does not know this person; nothing was changed.
        OsteoError: Another command is changing the data set.
    """
    staging = Staging(data)
    with staging.lock():
        known = read_withdrawn(staging.out)
        rows, images = _count(staging.out, patient_id)
        if not rows and images is None and patient_id not in known:
            raise InputError(f"no person {patient_id!r}", where=str(data), remedy="see patient_id in clinical.csv")
        if rows or images is not None:
            with staging.build() as built:
                staging.copy(without=patient_id)
                _remove_rows(built, patient_id)
                withdrawn = [{"patient_id": name} for name in sorted(known | {patient_id})]
                write_rows(built / WITHDRAWN, ["patient_id"], withdrawn)
                on_built(built)
        else:
            staging.clear()
        record()
    return Withdrawal(patient_id, images or 0, rows)


def read_withdrawn(data: Path) -> set[str]:
    """Pseudonyms of the people who were withdrawn."""
    return {row["patient_id"] for row in read_rows(data / WITHDRAWN)}


def _count(data: Path, patient_id: str) -> tuple[int, int | None]:
    """Number of table rows and image files of a person; None where there is no folder of images or label maps."""
    if not patient_id or patient_id in (".", "..") or Path(patient_id).name != patient_id:
        return 0, None
    folders = [folder for name in (IMAGES, VERTEBRAE) if (folder := data / name / patient_id).is_dir()]
    rows = sum(_belongs_to(row, patient_id) for name in TABLES for row in read_rows(data / name))
    images = sum(path.is_file() for path in (data / IMAGES / patient_id).rglob("*"))
    return rows, images if folders else None


def _remove_rows(data: Path, patient_id: str) -> None:
    for path in (data / name for name in TABLES):
        rows = read_rows(path)
        kept = [row for row in rows if not _belongs_to(row, patient_id)]
        if len(kept) < len(rows):
            write_rows(path, list(rows[0]), kept)


def _belongs_to(row: dict[str, str], patient_id: str) -> bool:
    return row.get("patient_id") == patient_id or row.get("path", "").split("/")[0] == patient_id
