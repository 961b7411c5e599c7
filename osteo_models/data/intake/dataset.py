"""The data set that an import makes: built whole beside the old one, then exchanged for it."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from osteo_models.data.clinical import COLUMNS
from osteo_models.data.intake.alike import find_nearest_of_others
from osteo_models.data.intake.ledger import Ledger
from osteo_models.data.pseudonyms import KEY_NAME
from osteo_models.errors import InputError, OsteoError

IMAGES: Final = "dicom"


@dataclass(frozen=True)
class InputRow:
    """A row of intake.csv: one for every input, accepted or not."""

    input: str
    status: str
    reason: str
    patient_id: str
    modality: str
    images: int


@dataclass(frozen=True)
class ImageRow:
    """A row of images.csv: one for every image; `look_alike` is another patient's image that looks the same."""

    path: str
    input: str
    pixels: str
    look: str
    look_alike: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an import came to; `reasons` counts the refused inputs, `added` the images that the data set had not."""

    inputs: int
    accepted: int
    reasons: dict[str, int]
    images: int
    added: int
    look_alikes: int


class Staging:
    """The folders of an import under way, beside the data set, so that renaming them is one step."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self._folder = self.out.with_name(f".{out.name}.importing")
        self._before = self.out.with_name(f".{out.name}.before")
        self.ledger, self.images = self._folder / "ledger.sqlite", self._folder / "images"
        self.building, self.ready = self._folder / "building", self._folder / "ready"

    def recover(self) -> None:
        """End an exchange that was cut short: forwards where the new data set is whole, else back."""
        if self._before.exists() and not self.out.exists():
            (self.ready if self.ready.exists() else self._before).rename(self.out)
        if self._before.exists() and self.out.exists():
            shutil.rmtree(self._before)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One import at a time.

        Raises:
            InputError: The data set cannot be made here.
            OsteoError: Another one is at work.
        """
        if self.out.exists() and not self.out.is_dir():
            raise InputError("not a folder", where=str(self.out), remedy="name another --out")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._folder / ".gitignore").write_text("*\n")  # the ledger has names
        except OSError as error:
            found = f"no folder can be made beside it ({type(error).__name__})"
            raise InputError(found, where=str(self.out), remedy="name another --out") from None
        with (self._folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OsteoError("another import is at work here", where=str(self.out), remedy="wait for it") from None
            yield

    def exchange(self) -> None:
        """Put the new data set in the old one's place and clear up."""
        if self.out.exists():
            self.out.rename(self._before)
        self.ready.rename(self.out)
        shutil.rmtree(self._before, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def finish_dataset(staging: Staging, ledger: Ledger, clinical: pd.DataFrame, key: str) -> Outcome:
    """Build the whole data set, ready to be exchanged: old and new images, tables of both.

    Args:
        staging: Where.
        ledger: With every input settled.
        clinical: The new rows, de-identified.
        key: What the data set shall hold of the key of its pseudonyms.
    """
    for folder in (staging.building, staging.ready):
        shutil.rmtree(folder, ignore_errors=True)
    if staging.out.exists():
        shutil.copytree(staging.out, staging.building, copy_function=_link, symlinks=True)
    (staging.building / IMAGES).mkdir(parents=True, exist_ok=True)
    known = {row["path"]: ImageRow(**row) for row in _read(staging.building / "images.csv")}
    seen = {row.pixels: (row.path, row.input) for row in known.values()}
    inputs, fresh = _collect(ledger, seen)
    for path in fresh:
        target = staging.building / IMAGES / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(str(staging.images / path), str(target))
    images = _mark_look_alikes(known | fresh)
    before = {row["input"]: row for row in _read(staging.building / "intake.csv")}
    rows = before | {row.input: asdict(row) for row in inputs}
    _write(staging.building / "intake.csv", [rows[name] for name in sorted(rows)], InputRow)
    _write(staging.building / "images.csv", [asdict(row) for row in images], ImageRow)
    _merge_clinical(staging.building / "clinical.csv", clinical)
    _replace(staging.building / KEY_NAME, key)
    staging.building.rename(staging.ready)
    return Outcome(
        inputs=len(inputs),
        accepted=sum(row.status == "accepted" for row in inputs),
        reasons=dict(Counter(row.reason for row in inputs if row.reason)),
        images=len(fresh),
        added=len(set(fresh) - set(known)),
        look_alikes=sum(bool(row.look_alike) for row in images),
    )


def _collect(ledger: Ledger, seen: dict[str, tuple[str, str]]) -> tuple[list[InputRow], dict[str, ImageRow]]:
    """Every input's row, and the images that are no second copy of another input's, known or earlier in the source."""
    inputs: list[InputRow] = []
    fresh: dict[str, ImageRow] = {}
    for row in ledger.rows():
        status, reason, kept = row["state"], row["reason"] or "", 0
        for path, pixels, look in row["images"]:
            if seen.setdefault(pixels, (path, row["id"])) == (path, row["id"]):
                fresh[path] = ImageRow(path, row["id"], pixels, look)
                kept += 1
        if row["images"] and not kept:
            status, reason = "refused", "duplicate"
        patient = row["images"][0][0].split("/")[0] if row["images"] else ""
        inputs.append(InputRow(row["id"], status, reason, patient, row["modality"] or "", kept))
    return inputs, fresh


def _mark_look_alikes(images: dict[str, ImageRow]) -> list[ImageRow]:
    """The images in the order of their paths, with another patient's image that looks like each."""
    rows = [images[path] for path in sorted(images)]
    if not rows:
        return []
    looks = np.array([np.frombuffer(bytes.fromhex(row.look), np.uint64) for row in rows])
    patients = np.unique([row.path.split("/")[0] for row in rows], return_inverse=True)[1]
    alike = find_nearest_of_others(looks, patients)
    return [
        ImageRow(row.path, row.input, row.pixels, row.look, rows[other].path if other >= 0 else "")
        for row, other in zip(rows, alike, strict=True)
    ]


def _merge_clinical(path: Path, new: pd.DataFrame) -> None:
    new = new.assign(**{name: new[name].dt.strftime("%Y-%m-%d") for name in COLUMNS if name.endswith("_date")})
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        old = old[~old["patient_id"].isin(new["patient_id"])]
        new = pd.concat([old, new.astype(object)])
        path.unlink()  # it may be a link to the old data set's file
    new.sort_values("patient_id").to_csv(path, index=False)


def _link(source: str, target: str) -> str:
    """A second name for a file; a copy where the file system has none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the old data set's file
    path.write_text(text, encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, Any]], kind: type) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the old data set's file
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
