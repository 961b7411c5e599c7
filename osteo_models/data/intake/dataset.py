"""The data set that an import makes: old and new images, and the tables of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from osteo_models.data.clinical import COLUMNS
from osteo_models.data.data_folder import IMAGES, INTAKE, Staging, link_file, read_rows, write_rows
from osteo_models.data.intake.import_log import ImportLog
from osteo_models.data.intake.near_duplicates import find_near_duplicates
from osteo_models.data.intake.pseudonyms import KEY_NAME, Pseudonyms, describe_key
from osteo_models.data.intake.reading import ImageRow

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class InputRow:
    """A row of intake.csv: one for every input, accepted or not.

    Attributes:
        series: Pseudonym of the series, of which the inputs are reviewed together.
        status: `accepted`, `refused` or `doubtful`.
    """

    input: str
    series: str
    status: str
    reason: str
    patient_id: str
    modality: str
    images: int


@dataclass(frozen=True)
class ImportSummary:
    """Counts of an import: `reasons` of the other inputs, `added` the images that are new to the data set."""

    inputs: int
    accepted: int
    doubtful: int
    reasons: dict[str, int]
    images: int
    added: int
    look_alikes: int


def name_series(row: Mapping[str, Any], pseudonyms: Pseudonyms) -> str:
    """Pseudonym of the series of an input, by its row of the import log; empty for what has none."""
    if not row["series"]:
        return ""
    return pseudonyms.name("\x1f".join(str(row[name]) for name in ("patient", "study", "series", "stack")))


def build_dataset(staging: Staging, log: ImportLog, clinical: pd.DataFrame, pseudonyms: Pseudonyms) -> ImportSummary:
    """Build the successor of the data set, ready for the exchange.

    Args:
        staging: Its folders; the lock is held.
        log: Every input is accepted or refused.
        clinical: The new rows, de-identified.
        pseudonyms: The key.
    """
    staging.copy()
    built = staging.building
    known = {row["path"]: ImageRow(**row) for row in read_rows(built / "images.csv")}
    inputs, images = _collect(log, known, pseudonyms)
    for path in images:
        target = built / IMAGES / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link_file(str(staging.images / path), str(target))
    all_images = _mark_near_duplicates(known | images)
    input_rows = {row["input"]: row for row in read_rows(built / INTAKE)} | {row.input: asdict(row) for row in inputs}
    _write(built / INTAKE, InputRow, [input_rows[name] for name in sorted(input_rows)])
    _write(built / "images.csv", ImageRow, [asdict(row) for row in all_images])
    _merge_clinical(built / "clinical.csv", clinical)
    (built / KEY_NAME).unlink(missing_ok=True)  # it may be a link to the file of the old data set
    (built / KEY_NAME).write_text(describe_key(pseudonyms), encoding="utf-8")
    return ImportSummary(
        inputs=len(inputs),
        accepted=sum(row.status == "accepted" for row in inputs),
        doubtful=sum(row.status == "doubtful" for row in inputs),
        reasons=dict(Counter(row.reason for row in inputs if row.reason)),
        images=len(images),
        added=len(set(images) - set(known)),
        look_alikes=sum(bool(row.look_alike) for row in all_images),
    )


def _collect(
    log: ImportLog, known: dict[str, ImageRow], pseudonyms: Pseudonyms
) -> tuple[list[InputRow], dict[str, ImageRow]]:
    """The row of every input, and the images that are no copy of another input's, known or earlier in the source."""
    owners = {row.pixels: (row.path, row.input) for row in known.values()}
    inputs: list[InputRow] = []
    unique: dict[str, ImageRow] = {}
    for row in log.rows():
        images = [ImageRow(*values) for values in row["images"]]
        own = [image for image in images if _is_first(image, owners)] if row["state"] == "accepted" else []
        unique |= {image.path: image for image in own}
        is_copy = row["state"] == "accepted" and bool(images) and not own
        status, reason = ("refused", "duplicate") if is_copy else (row["state"], row["reason"] or "")
        patient = images[0].path.split("/")[0] if images else ""
        series = name_series(row, pseudonyms)
        inputs.append(InputRow(row["id"], series, status, reason, patient, row["modality"] or "", len(own)))
    return inputs, unique


def _is_first(image: ImageRow, owners: dict[str, tuple[str, str]]) -> bool:
    """Whether no other image has these pixels so far."""
    return owners.setdefault(image.pixels, (image.path, image.input)) == (image.path, image.input)


def _mark_near_duplicates(images: dict[str, ImageRow]) -> list[ImageRow]:
    """The images in the order of their paths, each with another patient's image that is nearly the same."""
    rows = [images[path] for path in sorted(images)]
    if not rows:
        return []
    hashes = np.array([np.frombuffer(bytes.fromhex(row.look), np.uint64) for row in rows])
    patients = np.unique([row.path.split("/")[0] for row in rows], return_inverse=True)[1]
    nearest = find_near_duplicates(hashes, patients)
    pairs = zip(rows, nearest, strict=True)
    return [replace(row, look_alike=rows[other].path if other >= 0 else "") for row, other in pairs]


def _merge_clinical(path: Path, new: pd.DataFrame) -> None:
    new = new.assign(**{name: new[name].dt.strftime("%Y-%m-%d") for name in COLUMNS if name.endswith("_date")})
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        old = old[~old["patient_id"].isin(new["patient_id"])]
        new = pd.concat([old, new.astype(object)])
        path.unlink()  # it may be a link to the file of the old data set
    new.sort_values("patient_id").to_csv(path, index=False)


def _write(path: Path, kind: type[DataclassInstance], rows: Sequence[dict[str, Any]]) -> None:
    write_rows(path, [field.name for field in fields(kind)], rows)
