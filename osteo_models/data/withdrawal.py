"""Taking a person out of the data set, whose consent is withdrawn: images, rows, and no way back in.

The data set without the person is built beside the old one and exchanged for it, so that none is ever half withdrawn.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_models.data.intake.dataset import Staging
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

    An import that was killed on the way starts anew next time: what it holds ready may be the person's.

    Args:
        data: The data set.
        patient_id: The pseudonym.

    Returns:
        What was taken out: nothing, where it was done before.

    Raises:
        InputError: The data set does not know this person; nothing was changed.
        OsteoError: An import is at work.
    """
    staging = Staging(data)
    staging.recover()
    rows, images = _find(data, patient_id)
    known = read_withdrawn(data)
    if not rows and images is None:
        if patient_id in known:
            return Withdrawal(patient_id, 0, 0)
        raise InputError(f"no person {patient_id!r}", where=str(data), remedy="see patient_id in clinical.csv")
    with staging.lock():
        for folder in (staging.building, staging.ready):
            shutil.rmtree(folder, ignore_errors=True)
        gone = data / "dicom" / patient_id
        shutil.copytree(
            data,
            staging.building,
            copy_function=_link,
            symlinks=True,
            ignore=lambda folder, names: {gone.name} & set(names) if Path(folder) == gone.parent else set(),
        )
        withdrawn = [{"patient_id": name} for name in sorted(known | {patient_id})]
        _write(staging.building / WITHDRAWN, ["patient_id"], withdrawn)
        for path in (staging.building / name for name in TABLES):
            if path.exists():
                _rewrite(path, lambda row: not _is_of(row, patient_id))
        staging.building.rename(staging.ready)
        staging.exchange()
    return Withdrawal(patient_id, images or 0, rows)


def _find(data: Path, patient_id: str) -> tuple[int, int | None]:
    """How many table rows and image files of a person there are; None where there is no folder of images."""
    if not patient_id or patient_id in (".", "..") or Path(patient_id).name != patient_id:
        return 0, None
    folder = data / "dicom" / patient_id
    rows = sum(_count(data / name, patient_id) for name in TABLES if (data / name).exists())
    return rows, sum(1 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None


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
    """A new file in the old one's place: that one has other names, in the old data set or in DVC's cache."""
    partial = path.with_name(f".{path.name}")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _link(source: str, target: str) -> str:
    """A second name for a file; a copy where the file system has none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target
