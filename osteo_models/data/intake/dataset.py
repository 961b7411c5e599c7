"""The data set that an import makes: old and new images, and the tables of both."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.data.clinical import COLUMNS
from osteo_models.data.data_folder import IMAGES, Staging, link_file, read_rows, write_rows
from osteo_models.data.intake.import_log import Ledger
from osteo_models.data.intake.lookalikes import find_nearest_of_others
from osteo_models.data.intake.pseudonyms import KEY_NAME
from osteo_models.data.tables import Rule, read_table

RULES: Final[dict[str, Rule]] = {
    "file": Rule(bool, "the name of a file", unique=True),
    "patient_id": Rule(bool, "an identifier of the clinical table"),
    "modality": Rule(lambda text: text in MODALITIES, " or ".join(MODALITIES)),
}


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


def finish_dataset(staging: Staging, ledger: Ledger, clinical: pd.DataFrame, key: str) -> Outcome:
    """Build the whole data set, ready to be exchanged.

    Args:
        staging: Where; its lock is held.
        ledger: With every input settled.
        clinical: The new rows, de-identified.
        key: What the data set shall hold of the key of its pseudonyms.
    """
    staging.copy()
    known = {row["path"]: ImageRow(**row) for row in read_rows(staging.building / "images.csv")}
    seen = {row.pixels: (row.path, row.input) for row in known.values()}
    inputs, fresh = _collect(ledger, seen)
    for path in fresh:
        target = staging.building / IMAGES / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link_file(str(staging.images / path), str(target))
    images = _mark_look_alikes(known | fresh)
    before = {row["input"]: row for row in read_rows(staging.building / "intake.csv")}
    rows = before | {row.input: asdict(row) for row in inputs}
    _write(staging.building / "intake.csv", InputRow, [rows[name] for name in sorted(rows)])
    _write(staging.building / "images.csv", ImageRow, [asdict(row) for row in images])
    _merge_clinical(staging.building / "clinical.csv", clinical)
    _replace(staging.building / KEY_NAME, key)
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


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the old data set's file
    path.write_text(text, encoding="utf-8")


def _write(path: Path, kind: type, rows: list[dict[str, Any]]) -> None:
    write_rows(path, [field.name for field in fields(kind)], rows)


def read_pictures(path: Path) -> dict[str, tuple[str, Modality]]:
    """Patient and modality of each picture, by its name within the source.

    Raises:
        TableError: The file is missing, a column is missing, or values are wrong (all are listed, none is repeated).
    """
    rows = read_table(path, RULES).to_dict("records")
    return {row["file"]: (row["patient_id"], cast("Modality", row["modality"])) for row in rows}
