"""Scored images, checked once: every statistic starts from these arrays.

A fault is told with all others of the same input, so that one run shows everything there is to mend.
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
        target, score, patient: (N,), N >= 1. Without patients each image stands for itself.
    """

    target: IntArray
    score: FloatArray
    patient: TextArray
    has_patients: bool

    @property
    def n_positive(self) -> int:
        return int(self.target.sum())

    @property
    def n_negative(self) -> int:
        return int(self.target.size - self.target.sum())


def read_floats(values: ArrayLike, name: str, faults: list[str]) -> FloatArray:
    """A vector of finite floats; what is wrong is appended to `faults`."""
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


def read_targets(values: ArrayLike, faults: list[str]) -> IntArray:
    """A vector of 0 and 1; what is wrong is appended to `faults`."""
    array = read_floats(values, "target", faults)
    known = np.isin(array, (0, 1))
    strange = np.unique(array[~known & np.isfinite(array)])
    if strange.size:
        shown = ", ".join(f"{value:g}" for value in strange[:3])
        faults.append(f"`target` has values other than 0 and 1: {shown}")
    return np.where(known, array, 0).astype(np.int64)


def compare_lengths(columns: Mapping[str, int], faults: list[str]) -> None:
    """Append a fault where columns differ in length; an unreadable column (0) has its own."""
    found = {name: size for name, size in columns.items() if size}
    if len(set(found.values())) > 1:
        faults.append("lengths differ: " + ", ".join(f"`{name}` {size}" for name, size in found.items()))


def check_cases(target: ArrayLike, score: ArrayLike, patient_id: Iterable[Any] | None = None) -> Cases:
    """Turn columns into checked cases.

    Raises:
        InputError: A column is empty, of another length than the others, holds NaN or values that are not allowed.
    """
    faults: list[str] = []
    targets = read_targets(target, faults)
    scores = read_floats(score, "score", faults)
    outside = scores[(scores < 0) | (scores > 1)]
    if outside.size:
        faults.append(f"`score` has {outside.size} value(s) outside [0, 1], such as {outside[0]:g}")
    patients = None if patient_id is None else read_patients(patient_id, faults)
    lengths = {"target": targets.size, "score": scores.size}
    compare_lengths(lengths | ({} if patients is None else {"patient_id": patients.size}), faults)
    if faults:
        raise InputError("; ".join(faults), allowed=ALLOWED, remedy="check the table of predictions")
    if patients is None:
        return Cases(targets, scores, np.arange(targets.size).astype(np.str_), has_patients=False)
    return Cases(targets, scores, patients, has_patients=True)


def read_patients(values: Iterable[Any], faults: list[str]) -> TextArray:
    """Patients' names as text; what is wrong is appended to `faults`."""
    listed = cast("list[Any]", np.asarray(list(values), dtype=object).tolist())
    # NaN is the only value that differs from itself: a blank cell of a table
    blank = [row for row, value in enumerate(listed) if value is None or value != value or not str(value).strip()]
    if blank:
        faults.append(f"`patient_id` is empty in {len(blank)} row(s), the first is row {blank[0]}")
    return np.asarray([str(value) for value in listed], dtype=np.str_)
