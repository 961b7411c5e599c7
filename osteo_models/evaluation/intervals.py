"""95 % intervals of proportions of independent cases: Wald (the paper's) and Wilson."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal, cast, get_args

from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.errors import InputError
from osteo_models.evaluation.scored_cases import FloatArray

Method = Literal["wald", "wilson"]
CONFIDENCE: Final = 0.95
Z_95: Final = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
FEWEST_PATIENTS: Final = 5  # of each class that a figure needs: with fewer, no method reaches its coverage
ADDED: Final = 0.5  # patients added at each end of the scale
ROUNDING: Final = 1e-9  # patients: rounding error of a sum of shares
TAIL: Final = (1 - CONFIDENCE) / 2
Interval = tuple[float, float]


def proportion_interval(successes: int, trials: int, method: Method = "wald") -> tuple[float, float]:
    """95 % interval of successes / trials, within [0, 1].

    Args:
        successes: 0 to `trials`.
        trials: At least 1: without a trial there is no proportion.
        method: "wald" as the paper has it, clipped to [0, 1]; "wilson" keeps its coverage near 0 and 1.

    Returns:
        The lower and the upper end.

    Raises:
        InputError: Counts that are not whole, `trials` < 1, `successes` outside 0 to `trials`, or another method.

    Source:
        Wilson, J Am Stat Assoc 1927;22:209. Wald: FACTS of the paper's tables 3-7.
    """
    count, total = _whole(successes, "successes"), _whole(trials, "trials")
    if total < 1:
        raise InputError(f"`trials` is {total}", allowed="at least 1: without a trial there is no proportion")
    if not 0 <= count <= total:
        raise InputError(f"`successes` is {count} of {total} trials", allowed=f"0 to {total}")
    share = count / total
    if method == "wald":
        half = Z_95 * math.sqrt(share * (1 - share) / total)
        return max(0.0, share - half), min(1.0, share + half)
    if method == "wilson":
        scale = 1 + Z_95**2 / total
        centre = (share + Z_95**2 / (2 * total)) / scale
        half = Z_95 / scale * math.sqrt(share * (1 - share) / total + Z_95**2 / (4 * total**2))
        # the ends at 0 and 1 are exact in algebra, not in floating point
        low = 0.0 if count == 0 else centre - half
        high = 1.0 if count == total else centre + half
        return low, high
    raise InputError(f"`method` is {method!r}", allowed=", ".join(get_args(Method)))


def _whole(value: int, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"`{name}` is {value!r}", allowed="a whole number") from None


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
    successes, failures = share * trials, (1 - share) * trials
    low = float(beta(successes, failures + 1, TAIL)) if successes > ROUNDING else 0.0
    high = float(beta(successes + 1, failures, 1 - TAIL)) if failures > ROUNDING else 1.0
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


def clustered_auc_interval(
    above: FloatArray, positives: FloatArray, below: FloatArray, negatives: FloatArray
) -> Interval:
    """95 % interval of the area under the ROC curve, counting patients.

    The half patients that are added to each class score higher, or lower, than all others.

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


def _spread_side(concordance: FloatArray, size: FloatArray, others: int) -> Spread:
    """Spread of one class's shares of the other class, which has half a patient more at each end as well."""
    whole = others + 2 * ADDED
    shares = (concordance * others + size * ADDED) / whole
    # at the top all others score lower, and the half patient at the top, a tie, counts half
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
