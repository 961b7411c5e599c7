"""95 % intervals that count patients: Clopper-Pearson's at the effective number of patients.

A clustered variance says how many independent patients a figure is worth: n = p (1 - p) / variance. With few patients
that variance is often far too small, and zero where every image is right. Half a patient at each end of the scale (one
half all right, one half all wrong) is therefore added to the variance, never to the figure. Where each patient has one
image, or patients are all right or all wrong, n is the number of patients and the interval is Clopper-Pearson's own.

docs/statistics.md has the measured coverage of every metric, and the command that measures it.

Source:
    Clopper and Pearson, Biometrika 1934;26:404.
    Effective sample size: Korn and Graubard, Survey Methodology 1998;24:193.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, cast

from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.evaluation.cases import FloatArray
from osteo_models.evaluation.intervals import CONFIDENCE

FEWEST_PATIENTS: Final = 5  # of each class that a figure needs: below, no method was found to cover
ADDED: Final = 0.5  # of a patient, at each end of the scale
ROUNDING: Final = 1e-9  # of a patient: what a sum of shares misses a whole number by
TAIL: Final = (1 - CONFIDENCE) / 2

Interval = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """Clustered variance of a mean of images, and the mean that it belongs to, both with half a patient at each end."""

    centre: float
    variance: float


@dataclass(frozen=True)
class Figure:
    """A figure with its interval."""

    value: float
    low: float
    high: float


def find_spread(total: FloatArray, size: FloatArray, low: float = 0.0, high: float = 1.0) -> Spread:
    """Spread of sum(total) / sum(size) over patients.

    Args:
        total: Each patient's sum over images of values from `low` to `high`.
        size: Each patient's number of images, none of them 0.
        low, high: Mean value of the half patients that are added, who have as many images as patients have on average.

    Shapes:
        total, size: (P,), P >= 2.
    """
    added = ADDED * float(size.mean())
    images = float(size.sum()) + 2 * added
    centre = (float(total.sum()) + added * (low + high)) / images
    ends = ADDED * float(size.mean()) ** 2 * ((low - centre) ** 2 + (high - centre) ** 2)
    squares = float(((total - size * centre) ** 2).sum()) + ends
    patients = size.size + 2 * ADDED
    return Spread(centre, patients / (patients - 1) * squares / images**2)


def interval_of(value: float, spread: Spread) -> Interval:
    """95 % interval of a figure in [0, 1] with this spread; it holds the figure and is never of zero width."""
    effective = spread.centre * (1 - spread.centre) / spread.variance
    return _clopper_pearson(value, effective)


def _clopper_pearson(share: float, trials: float) -> Interval:
    """Clopper-Pearson's interval, for numbers of trials that need not be whole."""
    beta = cast(Any, special).betaincinv
    hits, misses = share * trials, (1 - share) * trials
    low = float(beta(hits, misses + 1, TAIL)) if hits > ROUNDING else 0.0
    high = float(beta(hits + 1, misses, 1 - TAIL)) if misses > ROUNDING else 1.0
    return min(low, share), max(high, share)


def mean_interval(total: FloatArray, size: FloatArray) -> Interval:
    """95 % interval of sum(total) / sum(size), of values in [0, 1]: a proportion, or a Brier score.

    Shapes:
        total, size: (P,): each patient's sum of values, and number of images.
    """
    return interval_of(float(total.sum() / size.sum()), find_spread(total, size))


def balanced_interval(
    true_positives: FloatArray, positives: FloatArray, true_negatives: FloatArray, negatives: FloatArray
) -> Interval:
    """95 % interval of the mean of sensitivity and specificity: the wider, at each end, of two.

    The one is made of both rates' own intervals; the other has the effective patients of both classes together. Six
    patients of each class who are all right or all wrong are covered by the first in 92.6 % only (rates of 0.95), and
    five against fifty by the second in 88 %.

    Shapes:
        true_positives, positives: (P1,) per patient with positive images; the others (P0,).

    Source:
        Zou and Donner, Stat Med 2008;27:1693 (MOVER: the variance estimates recovered from both limits).
    """
    rates: list[Figure] = []
    spreads: list[Spread] = []
    for total, size in ((true_positives, positives), (true_negatives, negatives)):
        spread, value = find_spread(total, size), float(total.sum() / size.sum())
        spreads.append(spread)
        rates.append(Figure(value, *interval_of(value, spread)))
    value = sum(rate.value for rate in rates) / 2
    below = math.hypot(*(rate.value - rate.low for rate in rates)) / 2
    above = math.hypot(*(rate.high - rate.value for rate in rates)) / 2
    both = Spread(sum(one.centre for one in spreads) / 2, sum(one.variance for one in spreads) / 4)
    low, high = interval_of(value, both)
    return max(0.0, min(low, value - below)), min(1.0, max(high, value + above))


def area_interval(above: FloatArray, positives: FloatArray, below: FloatArray, negatives: FloatArray) -> Interval:
    """95 % interval of the area under the ROC curve.

    The half patients that are added to each class score higher, or lower, than everybody else.

    Args:
        above: Sum over a patient's positive images of the share of negative images below them, ties as a half.
        positives: Number of a patient's positive images.
        below: Sum over a patient's negative images of the share of positive images above them.
        negatives: Number of a patient's negative images.

    Shapes:
        above, positives: (P1,) per patient with positive images; below, negatives: (P0,).

    Source:
        Clustered variance: Obuchowski, Biometrics 1997;53:567. Without clusters: DeLong et al., Biometrics 1988;44:837.
    """
    value = float(above.sum() / positives.sum())
    sides = (_spread_side(above, positives, negatives.size), _spread_side(below, negatives, positives.size))
    return interval_of(value, Spread(sides[0].centre, sides[0].variance + sides[1].variance))


def _spread_side(beaten: FloatArray, size: FloatArray, others: int) -> Spread:
    """Spread of one class's shares of the other class, which has half a patient more at each end as well."""
    whole = others + 2 * ADDED
    shares = (beaten * others + size * ADDED) / whole
    # at the top all others are beaten, and of the half patient at the top, which is a tie, a half
    return find_spread(shares, size, ADDED / 2 / whole, (others + 1.5 * ADDED) / whole)


def difference_interval(first: Figure, second: Figure, correlation: float) -> Interval:
    """95 % interval of first - second, of figures that correlate because they are of the same patients.

    Source:
        Zou and Donner, Stat Med 2008;27:1693; with correlation: Zou, Psychol Methods 2007;12:399.
    """
    value = first.value - second.value
    ends = (
        (first.value - first.low, second.high - second.value),
        (first.high - first.value, second.value - second.low),
    )
    below, above = (math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b)) for a, b in ends)
    return max(-1.0, value - below), min(1.0, value + above)
