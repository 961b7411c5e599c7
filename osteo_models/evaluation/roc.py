"""The ROC curve as points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.core.errors import InputError
from osteo_models.evaluation.scored_cases import (
    FloatArray,
    IntArray,
    TextArray,
    check_cases,
    compare_lengths,
    read_floats,
    read_patients,
    read_targets,
)

Level = Literal["image", "patient"]


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1); a threshold of infinity decides for nobody.

    Shapes:
        false_positive_rate, true_positive_rate, threshold: (T,), corner points only.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    threshold: FloatArray


def trace_roc(target: ArrayLike, score: ArrayLike) -> RocCurve:
    """The ROC curve of scores, without points on a straight line between their neighbours.

    Raises:
        InputError: As in `summarize`, and where a class is missing: there is no curve then.
    """
    cases = check_cases(target, score)
    if not cases.n_positive or not cases.n_negative:
        raise InputError("one class is missing: there is no ROC curve", where="`target`", allowed="both classes")
    order = np.argsort(-cases.score, kind="stable")
    scores = cases.score[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)  # equal scores move together
    hits = np.append(0, np.cumsum(cases.target[order])[ends])
    alarms = np.append(0, ends + 1 - hits[1:])
    corner = np.ones(hits.size, dtype=np.bool_)
    turn = np.diff(hits[:-1]) * np.diff(alarms[1:]) - np.diff(alarms[:-1]) * np.diff(hits[1:])
    corner[1:-1] = turn != 0
    thresholds = np.append(np.inf, scores[ends])
    return RocCurve(
        (alarms / cases.n_negative)[corner], (hits / cases.n_positive)[corner], thresholds[corner].astype(np.float64)
    )


@dataclass(frozen=True)
class Placements:
    """Share of negatives below each positive (m,), and of positives above each negative (n,), ties as a half."""

    positives: FloatArray
    negatives: FloatArray

    @property
    def auc(self) -> float:
        return float(self.positives.mean())

    @property
    def variance(self) -> float:
        return variance_of_mean(self.positives) + variance_of_mean(self.negatives)


def read_scores(
    target: ArrayLike,
    scores: dict[str, ArrayLike],
    patient_id: Iterable[Any] | None = None,
    level: Level = "image",
) -> tuple[IntArray, list[FloatArray], bool]:
    """Checked targets and scores at the level wanted, and whether several cases are of one patient."""
    faults: list[str] = []
    targets = read_targets(target, faults)
    columns = {name: read_floats(values, name, faults) for name, values in scores.items()}
    lengths = {"target": targets.size} | {name: column.size for name, column in columns.items()}
    patients = None if patient_id is None else read_patients(patient_id, faults)
    compare_lengths(lengths | ({} if patients is None else {"patient_id": patients.size}), faults)
    if level not in get_args(Level):
        faults.append(f"`level` is {level!r}")
    elif level == "patient" and patients is None:
        faults.append("`level` is 'patient' and no `patient_id` is given")
    listed = list(columns.values())
    if level == "patient" and patients is not None and not faults:
        targets, listed = _average(targets, listed, patients, faults)
    if not faults:
        _find_degenerate(targets, dict(zip(columns, listed, strict=True)), faults)
    if faults:
        raise InputError(
            "; ".join(faults),
            allowed="finite scores that differ, targets 0 or 1, two cases of each class, equal lengths, "
            "level image or patient",
        )
    clustered = level == "image" and patients is not None and np.unique(patients).size < patients.size
    return targets, listed, clustered


def _average(
    targets: IntArray, scores: Sequence[FloatArray], patients: TextArray, faults: list[str]
) -> tuple[IntArray, list[FloatArray]]:
    """One case per patient, in the order of their names."""
    names, owner, images = np.unique(patients, return_inverse=True, return_counts=True)
    positives = np.bincount(owner, weights=targets)
    mixed = names[(positives > 0) & (positives < images)]
    if mixed.size:
        faults.append(f"{mixed.size} patient(s) with both targets: {', '.join(str(name) for name in mixed[:5])}")
    means = [(np.bincount(owner, weights=score) / images).astype(np.float64) for score in scores]
    return (positives > 0).astype(np.int64), means


def _find_degenerate(targets: IntArray, columns: dict[str, FloatArray], faults: list[str]) -> None:
    for name, column in columns.items():
        if float(np.ptp(column)) == 0:
            faults.append(f"`{name}` is {column[0]:g} everywhere: its area under the curve is undefined")
    for label in (0, 1):
        count = int((targets == label).sum())
        if count < 2:
            faults.append(f"class {label} has {count} case(s): no variance without two")


def find_placements(target: IntArray, score: FloatArray) -> Placements:
    positive = target == 1
    ranks = _midranks(score)
    m, n = int(positive.sum()), int((~positive).sum())
    above = ranks[positive] - _midranks(score[positive])
    below = ranks[~positive] - _midranks(score[~positive])
    return Placements(above / n, (m - below) / m)


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, ties at their mean: whole or half numbers, exact in floating point."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count).astype(np.float64)
    return (last - (count - 1) / 2)[place]


def variance_of_mean(component: FloatArray) -> float:
    if float(np.ptp(component)) == 0:
        return 0.0
    return float(component.var(ddof=1)) / component.size
