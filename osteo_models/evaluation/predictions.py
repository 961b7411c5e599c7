"""The tables of predictions: read, checked all at once, and held as arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from osteo_models.core.errors import InputError, TableError
from osteo_models.core.terms import (
    IMAGE_SETS,
    MODALITIES,
    PROTOCOLS,
    STAGE_PATTERN,
    VALIDATIONS,
    ImageSet,
    Protocol,
    Stage,
    Validation,
    job_name,
)
from osteo_models.evaluation.scored_cases import BoolArray, Cases, FloatArray, IntArray, TextArray

TEXT_COLUMNS: Final = ("stage", "architecture", "images", "protocol", "image_id", "patient_id", "modality")
COLUMNS: Final = (*TEXT_COLUMNS, "fold", "target", "score")
SUFFIX: Final = ".parquet"
VALIDATION: Final = "validation"  # in the metadata of a file (`DataFrame.attrs`), so that the columns stay as they are


@dataclass(frozen=True)
class Predictions:
    """The scores of one job on images it was not trained on.

    Args:
        validation: How its images were held apart from training.
        source: The file, relative to the artifacts: every number made from it can name it.

    Shapes:
        fold, image_id, patient_id, modality, target, score: (N,).
    """

    stage: Stage
    architecture: str
    images: ImageSet
    protocol: Protocol
    validation: Validation
    source: str
    fold: IntArray
    image_id: TextArray
    patient_id: TextArray
    modality: TextArray
    target: IntArray
    score: FloatArray

    @property
    def job(self) -> str:
        """The job's name within its stage, such as `unimodal-mri-patient`."""
        return job_name(self.architecture, self.images, self.protocol)

    @property
    def name(self) -> str:
        """The job's name over all stages: its stage, a slash, `unimodal-mri-patient`."""
        return f"{self.stage}/{self.job}"

    @property
    def cases(self) -> Cases:
        """The scored images; they were checked when the table was read."""
        return Cases(self.target, self.score, self.patient_id, has_patients=True)

    def select(self, rows: BoolArray | NDArray[np.intp]) -> Predictions:
        """The same job on some of its images: a mask, or row numbers in the order wanted."""
        columns = ("fold", "image_id", "patient_id", "modality", "target", "score")
        return replace(self, **{column: getattr(self, column)[rows] for column in columns})


def read_predictions(artifacts: Path) -> list[Predictions]:
    """Read artifacts/predictions/<stage>/<architecture>-<images>-<protocol>.parquet, in the order of their names.

    Raises:
        InputError: No such file at all.
        TableError: Faults, those of all files together: unreadable, columns missing, values not allowed, an image
            twice, a patient with both targets, no validation, a file whose name is not that of its job.
    """
    root = artifacts / "predictions"
    paths = sorted(root.glob(f"*/*{SUFFIX}"))
    if not paths:
        raise InputError(
            "no predictions found", where=str(root), allowed="<stage>/<job>.parquet", remedy="run the experiments first"
        )
    faults: list[str] = []
    tables: list[Predictions] = []
    for path in paths:
        source = path.relative_to(artifacts).as_posix()
        found = _read_one(path, source)
        if isinstance(found, Predictions):
            tables.append(found)
        else:
            faults += [f"{source}: {fault}" for fault in found]
    if faults:
        raise TableError(" | ".join(faults), where=str(root), remedy="run the jobs of these files again")
    return tables


def _read_one(path: Path, source: str) -> Predictions | list[str]:
    """The table, or its faults."""
    try:
        frame = cast(Any, pd).read_parquet(path)  # pandas carries no complete types
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        return [f"not a readable parquet file ({str(error).splitlines()[0][:120]})"]
    names = {str(name) for name in frame.columns}
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        return [f"missing column(s): {', '.join(missing)}"]
    if not len(frame):
        return ["no rows"]
    values: dict[str, list[Any]] = {column: frame[column].tolist() for column in COLUMNS}
    validation = frame.attrs.get(VALIDATION)
    faults = _find_faults(values)
    if validation not in VALIDATIONS:
        faults.append(f"its metadata gives validation {validation!r}; allowed: {', '.join(VALIDATIONS)}")
    if faults:
        return faults
    text = {column: np.asarray([str(value) for value in values[column]], dtype=np.str_) for column in TEXT_COLUMNS}
    table = Predictions(
        stage=str(text["stage"][0]),
        architecture=str(text["architecture"][0]),
        images=str(text["images"][0]),
        protocol=cast(Protocol, str(text["protocol"][0])),
        validation=cast(Validation, validation),
        source=source,
        fold=np.asarray(values["fold"], dtype=np.int64),
        image_id=text["image_id"],
        patient_id=text["patient_id"],
        modality=text["modality"],
        target=np.asarray(values["target"], dtype=np.int64),
        score=np.asarray(values["score"], dtype=np.float64),
    )
    expected = f"predictions/{table.name}{SUFFIX}"
    return table if source == expected else [f"its rows belong to {expected}"]


def _find_faults(values: dict[str, list[Any]]) -> list[str]:
    """What is wrong with the columns of one file."""
    faults: list[str] = []
    for column in TEXT_COLUMNS:
        blank = sum(value is None or value != value or not str(value).strip() for value in values[column])
        if blank:
            faults.append(f"{column} is empty in {blank} row(s)")
    for column in ("stage", "architecture", "images", "protocol"):
        found = sorted({str(value) for value in values[column]})
        if len(found) > 1:
            faults.append(f"{column} has several values: {', '.join(found[:4])}")
    strange = sorted({str(value) for value in values["stage"] if not re.match(STAGE_PATTERN, str(value))})
    if strange:
        faults.append(f"stage has {', '.join(strange[:4])}; allowed: `stage-` and a number")
    terms = {"images": IMAGE_SETS, "protocol": PROTOCOLS, "modality": MODALITIES}
    for column, allowed in terms.items():
        unknown = sorted({str(value) for value in values[column]} - set(allowed))
        if unknown:
            faults.append(f"{column} has {', '.join(unknown[:4])}; allowed: {', '.join(allowed)}")
    faults += _find_number_faults(values)
    images = [str(value) for value in values["image_id"]]
    if len(set(images)) < len(images):
        twice = next(name for name in images if images.count(name) > 1)
        faults.append(f"{len(images) - len(set(images))} image(s) more than once, such as {twice}")
    targets: dict[str, set[Any]] = {}
    for patient, target in zip(values["patient_id"], values["target"], strict=True):
        targets.setdefault(str(patient), set()).add(target)
    mixed = sorted(patient for patient, found in targets.items() if len(found) > 1)
    if mixed:
        faults.append(f"{len(mixed)} patient(s) with both targets: {', '.join(mixed[:4])}")
    return faults


def _find_number_faults(values: dict[str, list[Any]]) -> list[str]:
    faults: list[str] = []
    for column, allowed in (("fold", "whole numbers from 0"), ("target", "0 or 1"), ("score", "numbers in [0, 1]")):
        try:
            numbers = np.asarray(values[column], dtype=np.float64)
        except (TypeError, ValueError):
            faults.append(f"{column} holds values that are not numbers; allowed: {allowed}")
            continue
        if column == "fold":
            wrong = ~((numbers >= 0) & (numbers == np.floor(numbers)) & np.isfinite(numbers))
        elif column == "target":
            wrong = ~np.isin(numbers, (0, 1))
        else:
            wrong = ~((numbers >= 0) & (numbers <= 1))  # NaN is wrong too
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            faults.append(f"{column} is {numbers[row]:g} in row {row} ({int(wrong.sum())} such); allowed: {allowed}")
    return faults
