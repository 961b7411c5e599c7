"""DeLong's variance of the area under the ROC curve, and the test of two correlated areas, in the fast form.

The structural components come from midranks, in O(N log N), and are therefore exact on ties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.errors import InputError
from osteo_models.evaluation.cases import FloatArray, IntArray, compare_lengths, read_floats, read_targets
from osteo_models.evaluation.intervals import Z_95


@dataclass(frozen=True)
class DelongResult:
    """Two areas on the same cases; the interval is the 95 % one of auc_a - auc_b.

    z, p_value and the interval are None where the areas differ and yet have no variance (one order perfect, the
    other perfectly wrong): the test says nothing then.
    """

    auc_a: float
    auc_b: float
    z: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    n_positive: int
    n_negative: int


@dataclass(frozen=True)
class AucInterval:
    """An area with its 95 % interval, clipped to [0, 1]; the ends are None where the variance is zero."""

    auc: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class _Components:
    """Share of negatives below each positive (m,), and of positives above each negative (n,), ties as a half."""

    positives: FloatArray
    negatives: FloatArray

    @property
    def auc(self) -> float:
        return float(self.positives.mean())


def delong_test(target: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> DelongResult:
    """Test two areas under the ROC curve that were measured on the same cases.

    The cases count as independent: several slices of one patient make p too small. Compare patients' mean scores then.

    Args:
        target: 0 or 1 per case, at least two of each.
        score_a: Finite scores, higher for class 1; only their order counts.
        score_b: The same cases, in the same order.

    Returns:
        The areas, z, two-sided p and the 95 % interval of the difference. Identical curves give z = 0, p = 1.

    Raises:
        InputError: NaN, other lengths, targets not 0 or 1, fewer than two cases of a class, constant scores.

    Source:
        DeLong et al., Biometrics 1988;44:837. Sun and Xu, IEEE Signal Process Lett 2014;21:1389.
    """
    targets, (first, second) = _read(target, {"score_a": score_a, "score_b": score_b})
    a, b = _components(targets, first), _components(targets, second)
    # the variance of the differences directly: S_aa + S_bb - 2 S_ab would cancel digits
    variance = _variance(a.positives - b.positives) + _variance(a.negatives - b.negatives)
    difference = a.auc - b.auc
    same = bool(np.array_equal(a.positives, b.positives) and np.array_equal(a.negatives, b.negatives))
    z: float | None = None
    p_value: float | None = None
    low: float | None = None
    high: float | None = None
    if same:
        z, p_value, low, high = 0.0, 1.0, 0.0, 0.0
    elif variance > 0:
        z = difference / math.sqrt(variance)
        p_value = math.erfc(abs(z) / math.sqrt(2))
        low, high = difference - Z_95 * math.sqrt(variance), difference + Z_95 * math.sqrt(variance)
    return DelongResult(a.auc, b.auc, z, p_value, low, high, a.positives.size, a.negatives.size)


def auc_interval(target: ArrayLike, score: ArrayLike) -> AucInterval:
    """Area under the ROC curve with DeLong's 95 % interval.

    Raises:
        InputError: As in `delong_test`.
    """
    targets, (scores,) = _read(target, {"score": score})
    parts = _components(targets, scores)
    variance = _variance(parts.positives) + _variance(parts.negatives)
    if variance == 0:
        return AucInterval(parts.auc, None, None)
    half = Z_95 * math.sqrt(variance)
    return AucInterval(parts.auc, max(0.0, parts.auc - half), min(1.0, parts.auc + half))


def _read(target: ArrayLike, scores: dict[str, ArrayLike]) -> tuple[IntArray, list[FloatArray]]:
    faults: list[str] = []
    targets = read_targets(target, faults)
    columns = {name: read_floats(values, name, faults) for name, values in scores.items()}
    compare_lengths({"target": targets.size} | {name: column.size for name, column in columns.items()}, faults)
    if not faults:
        for name, column in columns.items():
            if float(np.ptp(column)) == 0:
                faults.append(f"`{name}` is {column[0]:g} everywhere: its area under the curve is undefined")
        for label in (0, 1):
            count = int((targets == label).sum())
            if count < 2:
                faults.append(f"class {label} has {count} case(s): no variance without two")
    if faults:
        raise InputError(
            "; ".join(faults),
            allowed="finite scores that differ, targets 0 or 1, two cases of each class, equal lengths",
        )
    return targets, list(columns.values())


def _components(target: IntArray, score: FloatArray) -> _Components:
    positive = target == 1
    ranks = _midranks(score)
    m, n = int(positive.sum()), int((~positive).sum())
    above = ranks[positive] - _midranks(score[positive])
    below = ranks[~positive] - _midranks(score[~positive])
    return _Components(above / n, (m - below) / m)


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, ties at their mean: whole or half numbers, exact in floating point."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count).astype(np.float64)
    return (last - (count - 1) / 2)[place]


def _variance(component: FloatArray) -> float:
    if float(np.ptp(component)) == 0:
        return 0.0
    return float(component.var(ddof=1)) / component.size
