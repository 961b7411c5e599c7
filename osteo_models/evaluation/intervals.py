"""95 % intervals of proportions of independent cases: Wald (the paper's) and Wilson."""

from __future__ import annotations

import math
import operator
from statistics import NormalDist
from typing import Final, Literal, get_args

from osteo_models.errors import InputError

Method = Literal["wald", "wilson"]
CONFIDENCE: Final = 0.95
Z_95: Final = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


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
    hits, total = _whole(successes, "successes"), _whole(trials, "trials")
    if total < 1:
        raise InputError(f"`trials` is {total}", allowed="at least 1: without a trial there is no proportion")
    if not 0 <= hits <= total:
        raise InputError(f"`successes` is {hits} of {total} trials", allowed=f"0 to {total}")
    share = hits / total
    if method == "wald":
        half = Z_95 * math.sqrt(share * (1 - share) / total)
        return max(0.0, share - half), min(1.0, share + half)
    if method == "wilson":
        scale = 1 + Z_95**2 / total
        centre = (share + Z_95**2 / (2 * total)) / scale
        half = Z_95 / scale * math.sqrt(share * (1 - share) / total + Z_95**2 / (4 * total**2))
        # the ends at 0 and 1 are exact in algebra, not in floating point
        low = 0.0 if hits == 0 else centre - half
        high = 1.0 if hits == total else centre + half
        return low, high
    raise InputError(f"`method` is {method!r}", allowed=", ".join(get_args(Method)))


def _whole(value: int, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"`{name}` is {value!r}", allowed="a whole number") from None
