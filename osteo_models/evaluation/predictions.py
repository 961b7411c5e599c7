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
        result = _read_one(path, source)
        if isinstance(result, Predictions):
            tables.append(result)
        else:
            faults += [f"{source}: {fault}" for fault in result]
    if faults:
        raise TableError(" | ".join(faults), where=str(root), remedy="run the jobs of these files again")
    return tables


def _read_one(path: Path, source: str) -> Predictions | list[str]:
    """The table, or its faults."""
    try:
        frame = cast(Any, pd).read_parquet(path)  # pandas carries no complete types
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        return [f"not a readable parquet file ({str(error).splitlines()[0][:120]})"]
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        return [f"missing column(s): {', '.join(missing)}"]
    if not len(frame):
        return ["no rows"]
    validation = frame.attrs.get(VALIDATION)
    faults = _find_faults(frame)
    if validation not in VALIDATIONS:
        faults.append(f"its metadata gives validation {validation!r}; allowed: {', '.join(VALIDATIONS)}")
    if faults:
        return faults
    text = {column: np.asarray(frame[column].astype(str), dtype=np.str_) for column in TEXT_COLUMNS}
    table = Predictions(
        stage=str(text["stage"][0]),
        architecture=str(text["architecture"][0]),
        images=str(text["images"][0]),
        protocol=cast(Protocol, str(text["protocol"][0])),
        validation=cast(Validation, validation),
        source=source,
        fold=np.asarray(frame["fold"], dtype=np.int64),
        image_id=text["image_id"],
        patient_id=text["patient_id"],
        modality=text["modality"],
        target=np.asarray(frame["target"], dtype=np.int64),
        score=np.asarray(frame["score"], dtype=np.float64),
    )
    expected = f"predictions/{table.name}{SUFFIX}"
    return table if source == expected else [f"its rows belong to {expected}"]


def _find_faults(frame: Any) -> list[str]:
    """Faults in the columns of one file."""
    faults: list[str] = []
    text = {column: frame[column].map(str) for column in TEXT_COLUMNS}
    for column in TEXT_COLUMNS:
        blank = int((frame[column].isna() | (text[column].str.strip() == "")).sum())
        if blank:
            faults.append(f"{column} is empty in {blank} row(s)")
    for column in ("stage", "architecture", "images", "protocol"):
        values = sorted(set(text[column]))
        if len(values) > 1:
            faults.append(f"{column} has several values: {', '.join(values[:4])}")
    unknown = sorted(stage for stage in set(text["stage"]) if not re.match(STAGE_PATTERN, stage))
    if unknown:
        faults.append(f"stage has {', '.join(unknown[:4])}; allowed: `stage-` and a number")
    for column, allowed in {"images": IMAGE_SETS, "protocol": PROTOCOLS, "modality": MODALITIES}.items():
        unknown = sorted(set(text[column]) - set(allowed))
        if unknown:
            faults.append(f"{column} has {', '.join(unknown[:4])}; allowed: {', '.join(allowed)}")
    faults += _find_number_faults(frame)
    twice = text["image_id"][text["image_id"].duplicated()]
    if len(twice):
        faults.append(f"{len(twice)} image(s) more than once, such as {twice.iloc[0]}")
    targets = frame["target"].groupby(text["patient_id"]).nunique()
    mixed = sorted(targets.index[targets > 1])
    if mixed:
        faults.append(f"{len(mixed)} patient(s) with both targets: {', '.join(mixed[:4])}")
    return faults


def _find_number_faults(frame: Any) -> list[str]:
    faults: list[str] = []
    for column, allowed in (("fold", "whole numbers from 0"), ("target", "0 or 1"), ("score", "numbers in [0, 1]")):
        try:
            numbers = np.asarray(frame[column], dtype=np.float64)
        except (TypeError, ValueError):
            faults.append(f"{column} holds values that are not numbers; allowed: {allowed}")
            continue
        valid = (numbers >= 0) & np.isfinite(numbers)  # NaN is not
        if column == "fold":
            valid &= numbers == np.floor(numbers)
        else:
            valid &= np.isin(numbers, (0, 1)) if column == "target" else numbers <= 1
        if not valid.all():
            row = int(np.flatnonzero(~valid)[0])
            faults.append(f"{column} is {numbers[row]:g} in row {row} ({int((~valid).sum())} such); allowed: {allowed}")
    return faults
