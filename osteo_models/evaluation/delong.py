"""DeLong's variance of the area under the ROC curve, and the paired and unpaired tests of two AUCs.

The structural components come from midranks, in O(N log N), and are therefore exact on ties.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.errors import InputError
from osteo_models.evaluation.intervals import CONFIDENCE, Z_95
from osteo_models.evaluation.roc import Level, find_placements, read_scores, variance_of_mean

CLUSTERED: Final = "images of one patient are not independent: p is too small, see the patient level"


@dataclass(frozen=True)
class DelongResult:
    """A test of two AUCs; the interval is the 95 % one of auc_a - auc_b.

    z, p_value and the interval are None where the AUCs differ and have no variance: the test is undefined then.

    Args:
        z: The statistic; of the unpaired test Student's t with `df` degrees of freedom.
        warning: Why p cannot be trusted; empty when no reason is known.
        df: Degrees of freedom of the unpaired test; None where the paired test uses the normal distribution.
    """

    auc_a: float
    auc_b: float
    z: float | None = None
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    warning: str = ""
    df: float | None = None


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
    """Test two AUCs that were measured on the same cases.

    Args:
        target: 0 or 1 per case, at least two of each.
        score_a: Finite scores, higher for class 1; only their order counts.
        score_b: The same cases, in the same order.
        patient_id: The patient of each case. Cases count as independent, which several slices of one patient are not;
            the result then carries a warning.
        level: "patient" takes each patient as one case, with the mean scores; needs `patient_id`.

    Returns:
        The AUCs, z, two-sided p and the 95 % interval of the difference. Identical curves give z = 0, p = 1.

    Raises:
        InputError: NaN, other lengths, targets not 0 or 1, fewer than two cases of a class, constant scores; at the
            patient level no patients, or a patient with both targets.

    Source:
        DeLong et al., Biometrics 1988;44:837. Sun and Xu, IEEE Signal Process Lett 2014;21:1389.
    """
    scores: dict[str, ArrayLike] = {"score_a": score_a, "score_b": score_b}
    targets, (first, second), clustered = read_scores(target, scores, patient_id, level)
    warning = CLUSTERED if clustered else ""
    a, b = find_placements(targets, first), find_placements(targets, second)
    if np.array_equal(a.positives, b.positives) and np.array_equal(a.negatives, b.negatives):
        return DelongResult(a.auc, b.auc, 0.0, 1.0, 0.0, 0.0, warning)
    # the variance of the differences directly: S_aa + S_bb - 2 S_ab would cancel digits
    variance = variance_of_mean(a.positives - b.positives) + variance_of_mean(a.negatives - b.negatives)
    if variance <= 0:
        return DelongResult(a.auc, b.auc, warning=warning)
    difference, error = a.auc - b.auc, math.sqrt(variance)
    z = difference / error
    ends = (difference - Z_95 * error, difference + Z_95 * error)
    return DelongResult(a.auc, b.auc, z, math.erfc(abs(z) / math.sqrt(2)), *ends, warning)


def delong_unpaired(
    target_a: ArrayLike,
    score_a: ArrayLike,
    target_b: ArrayLike,
    score_b: ArrayLike,
    *,
    patient_a: Iterable[Any] | None = None,
    patient_b: Iterable[Any] | None = None,
    level: Level = "image",
) -> DelongResult:
    """Test two AUCs that were measured on different cases of different patients.

    Args:
        target_a, score_a, patient_a: The first cases, as in `delong_test`.
        target_b, score_b, patient_b: The second cases.
        level: As in `delong_test`.

    Returns:
        The AUCs, t with Welch's degrees of freedom, two-sided p and the 95 % interval of the difference. Two AUCs
        without variance that are equal give t = 0, p = 1, and no degrees of freedom.

    Raises:
        InputError: As in `delong_test`, and when a patient is on both sides: the cases are then not unpaired.

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
    targets_a, (scores_a,), clustered_a = read_scores(target_a, {"score_a": score_a}, patient_a, level)
    targets_b, (scores_b,), clustered_b = read_scores(target_b, {"score_b": score_b}, patient_b, level)
    warning = CLUSTERED if clustered_a or clustered_b else ""
    a, b = find_placements(targets_a, scores_a), find_placements(targets_b, scores_b)
    difference, variance = a.auc - b.auc, a.variance + b.variance
    if variance == 0:
        if difference:
            return DelongResult(a.auc, b.auc, warning=warning)
        return DelongResult(a.auc, b.auc, 0.0, 1.0, 0.0, 0.0, warning)
    df = variance**2 / (a.variance**2 / (targets_a.size - 1) + b.variance**2 / (targets_b.size - 1))
    t = difference / math.sqrt(variance)
    student = cast(Any, stats).t(df)
    half = float(student.ppf(0.5 + CONFIDENCE / 2)) * math.sqrt(variance)
    p_value = 2 * float(student.sf(abs(t)))
    return DelongResult(a.auc, b.auc, t, p_value, difference - half, difference + half, warning, df)


def auc_interval(target: ArrayLike, score: ArrayLike) -> AucInterval:
    """Area under the ROC curve with DeLong's 95 % interval.

    Raises:
        InputError: As in `delong_test`.
    """
    targets, (scores,), _ = read_scores(target, {"score": score})
    parts = find_placements(targets, scores)
    if parts.variance == 0:
        return AucInterval(parts.auc, None, None)
    half = Z_95 * math.sqrt(parts.variance)
    return AucInterval(parts.auc, max(0.0, parts.auc - half), min(1.0, parts.auc + half))
