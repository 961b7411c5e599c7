"""Calibration: how far scores can be read as probabilities.

Logistic recalibration fits logit P(osteoporosis) = intercept + slope * logit(score). Slope 1 and intercept 0 are ideal;
a slope below 1 means that scores are too extreme. Both are fitted together (Cox); the prevalence of a case-control
cohort is set by its design, so that the intercept does not transfer to other populations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.evaluation.intervals import CONFIDENCE, FEWEST_PATIENTS, Interval, mean_interval
from osteo_models.evaluation.scored_cases import BoolArray, Cases, FloatArray, IntArray

RESOLUTION: Final = 2.0**-24  # of a float32 near 1, in place of scores of exactly 0 and 1
STEPS: Final = 200  # four suffice unless leaving out a patient almost separates the classes
EXACT: Final = 1e-9  # relative step at which Newton's method ends; its error is the square of it
LONGEST_STEP: Final = 2.0  # keeps a nearly separated fit from diverging
CELLS_AT_ONCE: Final = 130_000  # fits x images of one block, to fit in the processor's cache
GROUPS: Final = 200  # per class, left out in turn: patients, or groups of patients when there are more
BINS: Final = 10


@dataclass(frozen=True)
class Recalibration:
    """One fit per row of weights.

    Infinite where the classes are separated (the likelihood then rises without end), NaN where a class is missing, all
    scores are one value or the fit does not converge.

    Shapes:
        slope, intercept: (B,).
    """

    slope: FloatArray
    intercept: FloatArray


def take_logit(score: FloatArray) -> FloatArray:
    """Log odds of scores; 0 and 1 are replaced by the nearest float32 values."""
    inside = np.clip(score, RESOLUTION, 1 - RESOLUTION)
    return np.log(inside) - np.log1p(-inside)


def recalibrate(target: IntArray, logit: FloatArray, owner: IntArray, weights: FloatArray) -> Recalibration:
    """Fit intercept and slope by maximum likelihood at each row of patient weights.

    Shapes:
        target, logit, owner: (N,); owner is the column of `weights` (B, P) that an image belongs to.

    Source:
        Cox, Biometrika 1958;45:562. Separation: Albert and Anderson, Biometrika 1984;71:1.
    """
    low_0, high_0 = _reach(target == 0, logit, owner, weights)
    low_1, high_1 = _reach(target == 1, logit, owner, weights)
    estimable = np.isfinite(low_0) & np.isfinite(low_1) & (np.maximum(high_0, high_1) > np.minimum(low_0, low_1))
    above, below = estimable & (low_1 >= high_0), estimable & (high_1 <= low_0)
    slope = np.select([above, below], [np.inf, -np.inf], np.nan)
    with np.errstate(invalid="ignore"):  # where a class is missing its reach is infinite
        intercept = -np.sign(np.where(above, low_1 + high_0, high_1 + low_0)) * slope
    rows = np.flatnonzero(estimable & ~above & ~below)
    if not rows.size:
        return Recalibration(slope, np.where(np.isinf(slope), intercept, np.nan))
    centre, spread = float(logit.mean()), float(logit.std())
    scaled = (logit - centre) / spread
    # the mean weights draw every patient that any row draws, so that this fit exists where one of the rows' does
    middle = np.nan_to_num(_fit(target, scaled, weights[rows].mean(axis=0)[None, owner], np.zeros((1, 2))))
    fitted = np.repeat(middle, rows.size, axis=0)
    for part in np.array_split(np.arange(rows.size), -(-rows.size * owner.size // CELLS_AT_ONCE)):
        fitted[part] = _fit(target, scaled, weights[rows[part]][:, owner], fitted[part])
    slope[rows] = fitted[:, 1] / spread
    intercept[rows] = fitted[:, 0] - fitted[:, 1] * centre / spread
    return Recalibration(slope, intercept)


def jackknife(
    target: IntArray, logit: FloatArray, owner: IntArray, classes: Sequence[IntArray]
) -> tuple[Interval | None, Interval | None]:
    """95 % intervals of slope and intercept, from leaving out each patient in turn; None where a fit does not exist.

    Args:
        classes: The patients of either class, each of one class; with more than `GROUPS` of a class, groups of them
            are left out.

    Source:
        Grouped jackknife: Kott, J Off Stat 2001;17:521. The quantile is Student's, of the smaller class.
    """
    patients = sum(members.size for members in classes)
    dealt = [np.arange(members.size) % GROUPS for members in classes]
    weights_by_class = [np.ones((1, patients))]
    for members, group in zip(classes, dealt, strict=True):
        weights = np.ones((int(group.max()) + 1, patients))
        weights[group, members] = 0
        weights_by_class.append(weights)
    fit = recalibrate(target, logit, owner, np.concatenate(weights_by_class))
    ends = np.cumsum([len(rows) for rows in weights_by_class])
    smaller = min(len(rows) for rows in weights_by_class[1:]) - 1
    quantile = float(cast(Any, special).stdtrit(smaller, 0.5 + CONFIDENCE / 2))
    intervals: list[Interval | None] = []
    for values in (fit.slope, fit.intercept):
        if not np.isfinite(values).all():
            intervals.append(None)
            continue
        parts = [values[start:end] for start, end in pairwise(ends)]
        half = quantile * float(np.sqrt(sum(part.var() * (part.size - 1) for part in parts)))
        intervals.append((float(values[0]) - half, float(values[0]) + half))
    return intervals[0], intervals[1]


def _solve(
    g0: FloatArray, g1: FloatArray, h00: FloatArray, h01: FloatArray, h11: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The step of each row from gradient and curvature, cut to the longest allowed, and how long it would have been."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / (h00 * h11 - h01**2)[:, None]
        length = np.abs(step).max(axis=1)
        return step * np.minimum(1, LONGEST_STEP / length)[:, None], length


def _reach(
    of_class: BoolArray, logit: FloatArray, owner: IntArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest value of a class among the patients drawn, (B,) each; infinite where there is none."""
    low, high = np.full(weights.shape[1], np.inf), np.full(weights.shape[1], -np.inf)
    np.minimum.at(low, owner[of_class], logit[of_class])
    np.maximum.at(high, owner[of_class], logit[of_class])
    drawn = weights > 0
    return np.where(drawn, low, np.inf).min(axis=1), np.where(drawn, high, -np.inf).max(axis=1)


def _fit(target: IntArray, scaled: FloatArray, weights: FloatArray, start: FloatArray) -> FloatArray:
    """Newton's method for all rows of weights (R, N) at once: (R, 2); NaN where it does not converge."""
    fitted = start.copy()
    active = np.arange(len(weights))
    squared = scaled**2
    for _ in range(STEPS):
        with np.errstate(over="ignore"):  # a chance of exactly 0
            chance = 1 / (1 + np.exp(-(fitted[active, :1] + fitted[active, 1:] * scaled)))
        weight = weights[active]
        curvature = weight * chance * (1 - chance)
        residual = weight * (target - chance)
        sums = (curvature.sum(axis=1), curvature @ scaled, curvature @ squared)
        step, length = _solve(residual.sum(axis=1), residual @ scaled, *sums)
        fitted[active] += step
        active = active[length > EXACT * (1 + np.abs(fitted[active]).max(axis=1))]  # NaN ends too
        if not active.size:
            break
    fitted[active] = np.nan
    return fitted


@dataclass(frozen=True)
class Bin:
    """Images of neighbouring scores: the mean score, and how many of them are osteoporosis."""

    mean_score: float
    observed: float
    ci_low: float | None
    ci_high: float | None
    images: int
    patients: int


def bin_scores(cases: Cases) -> Iterator[Bin]:
    """The calibration curve: ten bins of equally many images; equal scores stay in one bin.

    The interval is that of a share of images, with patients as in `mean_interval`.
    """
    edges = np.unique(np.quantile(cases.score, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, cases.score, side="right")
    for number in np.unique(bins):
        rows = bins == number
        target = cases.target[rows]
        _, owner, images = np.unique(cases.patient[rows], return_inverse=True, return_counts=True)
        low, high = None, None
        if images.size >= FEWEST_PATIENTS:
            low, high = mean_interval(np.bincount(owner, weights=target).astype(np.float64), images.astype(np.float64))
        yield Bin(float(cases.score[rows].mean()), float(target.mean()), low, high, target.size, images.size)
