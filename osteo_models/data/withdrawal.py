"""Taking a person out of the data set, whose consent is withdrawn: images, rows, and no way back in."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_models.errors import InputError

WITHDRAWN = "withdrawn.csv"
TABLES = ("clinical.csv", "intake.csv", "images.csv", "splits.csv")

Row = dict[str, str]


@dataclass(frozen=True)
class Withdrawal:
    """What was taken out."""

    patient_id: str
    images: int
    rows: int


def withdraw_patient(data: Path, patient_id: str) -> Withdrawal:
    """Take a person out of the data set on disk; a later import refuses the person's images.

    Args:
        data: The data set.
        patient_id: The pseudonym.

    Raises:
        InputError: The data set does not know this person; nothing was changed.
    """
    folder = data / "dicom" / patient_id
    named = patient_id and patient_id not in (".", "..") and Path(patient_id).name == patient_id
    tables = [data / name for name in TABLES if (data / name).exists()]
    rows = sum(_count(path, patient_id) for path in tables) if named else 0
    if not named or not (rows or folder.is_dir()):
        raise InputError(f"no person {patient_id!r}", where=str(data), remedy="see patient_id in clinical.csv")
    known = read_withdrawn(data)  # entered first: killed from here on, the command can be given again
    _write(data / WITHDRAWN, ["patient_id"], [{"patient_id": name} for name in sorted(known | {patient_id})])
    for path in tables:
        _rewrite(path, lambda row: not _is_of(row, patient_id))
    images = sum(1 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return Withdrawal(patient_id, images, rows)


def read_withdrawn(data: Path) -> set[str]:
    """Pseudonyms of the people who were taken out."""
    path = data / WITHDRAWN
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {row["patient_id"] for row in csv.DictReader(file)}


def _is_of(row: Row, patient_id: str) -> bool:
    return row.get("patient_id") == patient_id or row.get("path", "").split("/")[0] == patient_id


def _count(path: Path, patient_id: str) -> int:
    with path.open(newline="", encoding="utf-8") as file:
        return sum(_is_of(row, patient_id) for row in csv.DictReader(file))


def _rewrite(path: Path, keep: Callable[[Row], bool]) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        fields, rows = list(reader.fieldnames or []), [row for row in reader if keep(row)]
    _write(path, fields, rows)


def _write(path: Path, fields: list[str], rows: list[Row]) -> None:
    """A new file in the old one's place, never through a link into the DVC cache."""
    partial = path.with_name(f".{path.name}")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
