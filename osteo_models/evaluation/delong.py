"""DeLong's variance of the area under the ROC curve, and the tests of two areas, paired and unpaired, in the fast form.

The structural components come from midranks, in O(N log N), and are therefore exact on ties.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.errors import InputError
from osteo_models.evaluation.intervals import CONFIDENCE, Z_95
from osteo_models.evaluation.roc import Level, find_placements, read_scores, variance_of_mean

CLUSTERED: Final = "images of one patient are not independent: p is too small, see the patient level"


@dataclass(frozen=True)
class DelongResult:
    """Two areas on the same cases; the interval is the 95 % one of auc_a - auc_b.

    z, p_value and the interval are None where the areas differ and yet have no variance (one order perfect, the
    other perfectly wrong): the test says nothing then.

    Args:
        level: What a case is: an image, or a patient with the mean score of the images.
        warning: Why p cannot be trusted; empty where nothing is known against it.
    """

    auc_a: float
    auc_b: float
    z: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    n_positive: int
    n_negative: int
    level: Level = "image"
    warning: str = ""


@dataclass(frozen=True)
class UnpairedResult:
    """Two areas on different cases; the interval is the 95 % one of auc_a - auc_b.

    t, df, p_value and the interval are None where neither area has a variance.
    """

    auc_a: float
    auc_b: float
    t: float | None
    df: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    warning: str = ""


@dataclass(frozen=True)
class AucInterval:
    """An area with its 95 % interval, clipped to [0, 1]; the ends are None where the variance is zero."""

    auc: float
    ci_low: float | None
    ci_high: float | None


def delong_test(
    target: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    patient_id: Iterable[Any] | None = None,
    level: Level = "image",
) -> DelongResult:
    """Test two areas under the ROC curve that were measured on the same cases.

    Args:
        target: 0 or 1 per case, at least two of each.
        score_a: Finite scores, higher for class 1; only their order counts.
        score_b: The same cases, in the same order.
        patient_id: Whose case it is. Cases count as independent, which several slices of one patient are not; the
            result then carries a warning.
        level: "patient" takes each patient as one case, with the mean scores; needs `patient_id`.

    Returns:
        The areas, z, two-sided p and the 95 % interval of the difference. Identical curves give z = 0, p = 1.

    Raises:
        InputError: NaN, other lengths, targets not 0 or 1, fewer than two cases of a class, constant scores; at the
            patient level no patients, or a patient with both targets.

    Source:
        DeLong et al., Biometrics 1988;44:837. Sun and Xu, IEEE Signal Process Lett 2014;21:1389.
    """
    targets, (first, second), clustered = read_scores(
        target, {"score_a": score_a, "score_b": score_b}, patient_id, level
    )
    a, b = find_placements(targets, first), find_placements(targets, second)
    # the variance of the differences directly: S_aa + S_bb - 2 S_ab would cancel digits
    variance = variance_of_mean(a.positives - b.positives) + variance_of_mean(a.negatives - b.negatives)
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
    counts = (a.positives.size, a.negatives.size)
    return DelongResult(a.auc, b.auc, z, p_value, low, high, *counts, level, CLUSTERED if clustered else "")


def delong_unpaired(
    target_a: ArrayLike,
    score_a: ArrayLike,
    target_b: ArrayLike,
    score_b: ArrayLike,
    *,
    patient_a: Iterable[Any] | None = None,
    patient_b: Iterable[Any] | None = None,
    level: Level = "image",
) -> UnpairedResult:
    """Test two areas under the ROC curve that were measured on different cases of different patients.

    Args:
        target_a, score_a, patient_a: Of the first cases, as in `delong_test`.
        target_b, score_b, patient_b: Of the second.
        level: As in `delong_test`.

    Returns:
        The areas, t with Welch's degrees of freedom, two-sided p and the 95 % interval of the difference. Two areas
        without variance that are equal give t = 0, p = 1, and no degrees of freedom.

    Raises:
        InputError: As in `delong_test`, and where a patient stands on both sides: they are then not unpaired.

    Source:
        DeLong's variances with the degrees of freedom of Welch, as in the R package pROC (Robin et al., BMC
        Bioinformatics 2011;12:77).
    """
    if patient_a is not None and patient_b is not None:
        patient_a, patient_b = list(patient_a), list(patient_b)
        both = sorted({str(name) for name in patient_a} & {str(name) for name in patient_b})
        if both:
            raise InputError(
                f"{len(both)} patient(s) on both sides: {', '.join(both[:5])}",
                where="`patient_a`, `patient_b`",
                allowed="different patients",
                remedy="compare the cases that both have with delong_test",
            )
    sides = [
        read_scores(target, {name: score}, patients, level)
        for target, name, score, patients in (
            (target_a, "score_a", score_a, patient_a),
            (target_b, "score_b", score_b, patient_b),
        )
    ]
    warning = CLUSTERED if any(clustered for _, _, clustered in sides) else ""
    a, b = (find_placements(targets, scores[0]) for targets, scores, _ in sides)
    difference = a.auc - b.auc
    total = a.variance + b.variance
    if total == 0:
        if difference:
            return UnpairedResult(a.auc, b.auc, None, None, None, None, None, warning)
        return UnpairedResult(a.auc, b.auc, 0.0, None, 1.0, 0.0, 0.0, warning)
    df = total**2 / sum(
        one.variance**2 / (targets.size - 1) for one, (targets, _, _) in zip((a, b), sides, strict=True)
    )
    t = difference / math.sqrt(total)
    student = cast(Any, special)  # Student's distribution and its inverse, without the weight of scipy.stats
    half = float(student.stdtrit(df, 0.5 + CONFIDENCE / 2)) * math.sqrt(total)
    p_value = 2 * float(student.stdtr(df, -abs(t)))
    return UnpairedResult(a.auc, b.auc, t, df, p_value, difference - half, difference + half, warning)


def auc_interval(target: ArrayLike, score: ArrayLike) -> AucInterval:
    """Area under the ROC curve with DeLong's 95 % interval.

    Raises:
        InputError: As in `delong_test`.
    """
    targets, (scores,), _ = read_scores(target, {"score": score})
    parts = find_placements(targets, scores)
    variance = parts.variance
    if variance == 0:
        return AucInterval(parts.auc, None, None)
    half = Z_95 * math.sqrt(variance)
    return AucInterval(parts.auc, max(0.0, parts.auc - half), min(1.0, parts.auc + half))
