"""Scored images, checked once: every statistic starts from these arrays.

All faults of an input are reported together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osteo_models.core.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TextArray = NDArray[np.str_]
BoolArray = NDArray[np.bool_]

ALLOWED = "one row per image: target 0 (control) or 1 (osteoporosis), score in [0, 1], patient_id not empty"


@dataclass(frozen=True)
class Cases:
    """Checked cases of one job.

    Shapes:
        target, score, patient: (N,), N >= 1. Without patients each image counts as a patient.
    """

    target: IntArray
    score: FloatArray
    patient: TextArray
    has_patients: bool

    @property
    def n_positive(self) -> int:
        """Images of class 1."""
        return int(self.target.sum())

    @property
    def n_negative(self) -> int:
        """Images of class 0."""
        return int(self.target.size - self.target.sum())


@dataclass(frozen=True)
class Columns:
    """Columns of cases; `scores` by name, without patients None.

    Shapes:
        target, each of scores, patient: (N,).
    """

    target: IntArray
    scores: dict[str, FloatArray]
    patient: TextArray | None


def check_cases(target: ArrayLike, score: ArrayLike, patient_id: Iterable[Any] | None = None) -> Cases:
    """Turn columns into checked cases.

    Raises:
        InputError: A column is empty, of another length than the others, holds NaN or values that are not allowed.
    """
    faults: list[str] = []
    columns = read_columns(target, {"score": score}, patient_id, faults)
    scores = columns.scores["score"]
    outside = scores[(scores < 0) | (scores > 1)]
    if outside.size:
        faults.append(f"`score` has {outside.size} value(s) outside [0, 1], such as {outside[0]:g}")
    if faults:
        raise InputError("; ".join(faults), allowed=ALLOWED, remedy="check the table of predictions")
    if columns.patient is None:
        return Cases(columns.target, scores, np.arange(scores.size).astype(np.str_), has_patients=False)
    return Cases(columns.target, scores, columns.patient, has_patients=True)


def read_columns(
    target: ArrayLike, scores: Mapping[str, ArrayLike], patient_id: Iterable[Any] | None, faults: list[str]
) -> Columns:
    """Read columns of equal length; faults are appended to `faults`."""
    targets = _read_floats(target, "target", faults)
    valid = np.isin(targets, (0, 1))
    unknown = np.unique(targets[~valid & np.isfinite(targets)])
    if unknown.size:
        examples = ", ".join(f"{value:g}" for value in unknown[:3])
        faults.append(f"`target` has values other than 0 and 1: {examples}")
    columns = {name: _read_floats(values, name, faults) for name, values in scores.items()}
    patients = None if patient_id is None else _read_patients(patient_id, faults)
    sizes = {"target": targets.size} | {name: column.size for name, column in columns.items()}
    sizes |= {} if patients is None else {"patient_id": patients.size}
    sizes = {name: size for name, size in sizes.items() if size}  # an unreadable column has a fault of its own
    if len(set(sizes.values())) > 1:
        faults.append("lengths differ: " + ", ".join(f"`{name}` {size}" for name, size in sizes.items()))
    return Columns(np.where(valid, targets, 0).astype(np.int64), columns, patients)


def _read_floats(values: ArrayLike, name: str, faults: list[str]) -> FloatArray:
    """A vector of finite floats; empty when it cannot be read."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        faults.append(f"`{name}` holds values that are not numbers")
        return np.empty(0)
    if array.ndim != 1:
        faults.append(f"`{name}` has {array.ndim} dimensions, not 1")
        return np.empty(0)
    if array.size == 0:
        faults.append(f"`{name}` is empty")
    broken = np.flatnonzero(~np.isfinite(array))
    if broken.size:
        faults.append(f"`{name}` has {broken.size} value(s) that are NaN or infinite, the first in row {broken[0]}")
    return array


def _read_patients(values: Iterable[Any], faults: list[str]) -> TextArray:
    """Patients' names as text."""
    names = cast("list[Any]", np.asarray(list(values), dtype=object).tolist())
    # NaN, a blank cell of a table, is the only value that differs from itself
    blank = [row for row, value in enumerate(names) if value is None or value != value or not str(value).strip()]
    if blank:
        faults.append(f"`patient_id` is empty in {len(blank)} row(s), the first is row {blank[0]}")
    return np.asarray([str(value) for value in names], dtype=np.str_)


@dataclass(frozen=True)
class Patients:
    """Patients in the order of their names, each with the mean of the images' scores.

    Shapes:
        name, target, images: (P,); scores: (P,) each; owner: (N,), the patient of each image.
    """

    name: TextArray
    target: IntArray
    scores: list[FloatArray]
    images: IntArray
    owner: IntArray


def average_patients(target: IntArray, scores: Iterable[FloatArray], patient: TextArray) -> Patients:
    """One case per patient.

    Raises:
        InputError: A patient has images of both targets.
    """
    names, owner, images = np.unique(patient, return_inverse=True, return_counts=True)
    positives = np.bincount(owner, weights=target)
    mixed = names[(positives > 0) & (positives < images)]
    if mixed.size:
        examples = ", ".join(str(name) for name in mixed[:5])
        raise InputError(f"{mixed.size} patient(s) with both targets: {examples}", allowed="one target per patient")
    means = [(np.bincount(owner, weights=score) / images).astype(np.float64) for score in scores]
    return Patients(names, (positives > 0).astype(np.int64), means, images, owner)
