"""Calibration: how far scores can be read as probabilities.

Logistic recalibration fits logit P(osteoporosis) = intercept + slope * logit(score). Slope 1 and intercept 0 are ideal;
a slope below 1 says that scores are too extreme. Both are fitted together (Cox); the prevalence of a case-control
cohort is set by its design, so that the intercept says little about anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from osteo_models.evaluation.cases import BoolArray, Cases, FloatArray, IntArray

RESOLUTION: Final = 2.0**-24  # of a float32 near 1: a score of exactly 0 or 1 stands for one that near
STEPS: Final = 200  # two do but for resamples that are all but separated
EXACT: Final = 1e-9  # Newton's method ends at a step this small beside the coefficients; its error is the square of it
NEAR: Final = 1e-4  # the same for resamples, whose percentiles need no more
LONGEST_STEP: Final = 2.0  # keeps a resample that is nearly separated from leaping away
CELLS_AT_ONCE: Final = 130_000  # resamples x images of one block: they stay in the processor's cache
BINS: Final = 10
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Recalibration:
    """One fit per row of weights.

    Infinite where the classes are separated (the likelihood then rises without end), NaN where a class is missing, all
    scores are one value or the fit does not settle.

    Shapes:
        slope, intercept: (B,).
    """

    slope: FloatArray
    intercept: FloatArray


def take_logit(score: FloatArray) -> FloatArray:
    """Log odds of scores; 0 and 1 are taken as the nearest that a float32 can tell from them."""
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
    known = np.isfinite(low_0) & np.isfinite(low_1) & (np.maximum(high_0, high_1) > np.minimum(low_0, low_1))
    above, below = known & (low_1 >= high_0), known & (high_1 <= low_0)
    slope = np.select([above, below], [np.inf, -np.inf], np.nan)
    with np.errstate(invalid="ignore"):  # where a class is missing its reach is infinite
        intercept = -np.sign(np.where(above, low_1 + high_0, high_1 + low_0)) * slope
    rows = np.flatnonzero(known & ~above & ~below)
    if not rows.size:
        return Recalibration(slope, np.where(np.isinf(slope), intercept, np.nan))
    centre, spread = float(logit.mean()), float(logit.std())
    scaled = (logit - centre) / spread
    # the mean weights draw every patient that any row draws, so that this fit exists where one of the rows' does
    middle = _fit(target, scaled, weights[rows].mean(axis=0)[None, owner], np.zeros((1, 2)), EXACT)
    middle = np.nan_to_num(middle)  # all but separated: start from nothing
    fitted = _step_from(middle[0], target, scaled, owner, weights[rows])
    for part in np.array_split(np.arange(rows.size), -(-rows.size * owner.size // CELLS_AT_ONCE)):
        chosen = weights[rows[part]][:, owner]
        if rows.size > 1:
            fitted[part] = _fit(target, scaled.astype(np.float32), chosen.astype(np.float32), fitted[part], NEAR)
        lost = np.isnan(fitted[part, 0]) | (rows.size == 1)
        if lost.any():
            start = np.repeat(middle, int(lost.sum()), axis=0)
            fitted[part[lost]] = _fit(target, scaled, chosen[lost], start, EXACT)
    slope[rows] = fitted[:, 1] / spread
    intercept[rows] = fitted[:, 0] - fitted[:, 1] * centre / spread
    return Recalibration(slope, intercept)


def _step_from(
    middle: FloatArray, target: IntArray, scaled: FloatArray, owner: IntArray, weights: FloatArray
) -> FloatArray:
    """One step of Newton's method from one point for all rows, from sums over patients: (B, 2)."""
    with np.errstate(over="ignore"):  # a chance of exactly 0
        chance = 1 / (1 + np.exp(-(middle[0] + middle[1] * scaled)))
    curvature = chance * (1 - chance)
    parts = (target - chance, (target - chance) * scaled, curvature, curvature * scaled, curvature * scaled**2)
    sums = [weights @ np.bincount(owner, weights=part, minlength=weights.shape[1]) for part in parts]
    return middle + _solve(*sums)[0]


def _solve(g0: Floats, g1: Floats, h00: Floats, h01: Floats, h11: Floats) -> tuple[FloatArray, FloatArray]:
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


def _fit(target: IntArray, scaled: Floats, weights: Floats, start: FloatArray, close: float) -> FloatArray:
    """Newton's method for all rows of weights (R, N) at once: (R, 2); NaN where it does not settle."""
    fitted = start.astype(weights.dtype)
    active = np.arange(len(weights))
    squared, labels = scaled**2, target.astype(weights.dtype)
    for _ in range(STEPS):
        with np.errstate(over="ignore"):  # a chance of exactly 0
            chance = 1 / (1 + np.exp(-(fitted[active, :1] + fitted[active, 1:] * scaled)))
        weight = weights[active]
        curvature = weight * chance * (1 - chance)
        residual = weight * (labels - chance)
        sums = (curvature.sum(axis=1), curvature @ scaled, curvature @ squared)
        step, length = _solve(residual.sum(axis=1), residual @ scaled, *sums)
        fitted[active] += step
        active = active[length > close * (1 + np.abs(fitted[active]).max(axis=1))]  # NaN ends too
        if not active.size:
            break
    fitted[active] = np.nan
    return fitted.astype(np.float64)


@dataclass(frozen=True)
class Bin:
    """Images of neighbouring scores: the mean score, and how many of them are osteoporosis."""

    mean_score: float
    observed: float
    ci_low: float | None
    ci_high: float | None
    images: int
    patients: int


def bin_scores(cases: Cases, owner: IntArray, weights: FloatArray) -> Iterator[Bin]:
    """The calibration curve: ten bins of equally many images; equal scores are never parted.

    Shapes:
        owner: (N,), the column of `weights` (B, P) that an image belongs to.
    """
    edges = np.unique(np.quantile(cases.score, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, cases.score, side="right")
    for number in np.unique(place):
        rows = place == number
        count = np.bincount(owner[rows], minlength=weights.shape[1]).astype(np.float64)
        positives = np.bincount(owner[rows], weights=cases.target[rows], minlength=weights.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = (weights @ positives) / (weights @ count)
        shares = shares[np.isfinite(shares)]  # a resample may draw no patient of this bin
        patients = int((count > 0).sum())
        low, high = (None, None)
        if patients > 1 and shares.size and float(np.ptp(shares)) > 0:
            low, high = (float(value) for value in np.percentile(shares, [2.5, 97.5]))
        yield Bin(
            float(cases.score[rows].mean()), float(cases.target[rows].mean()), low, high, int(rows.sum()), patients
        )
