"""Two checks of a map: how much of it lies where it should, and whether it says anything of the network at all."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Maps = npt.NDArray[np.float32]

MAX_SIMILARITY: Final = 0.5


def share_inside(heat: Maps, mask: npt.NDArray[np.floating]) -> float | None:
    """The share of a map that lies inside a mask; the mask's mean is what a map without any preference would have.

    Shapes:
        heat, mask: (H, W).

    Args:
        heat: 0 or more.
        mask: The share of each pixel that is inside, 0 to 1.

    Returns:
        0 to 1; None where the map is 0 everywhere.
    """
    total = float(heat.sum(dtype=np.float64))
    return float((heat * mask).sum(dtype=np.float64)) / total if total > 0 else None


def rank_correlation(heat: Maps, other: Maps) -> float | None:
    """Spearman's rank correlation between two maps of one image.

    Shapes:
        heat, other: (H, W).

    Returns:
        -1 to 1; None where a map is constant, which has no ranks.
    """
    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return None
    ranks = [rankdata(each, axis=None) for each in (heat, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def mean_similarity(maps: Maps, others: Maps) -> float | None:
    """How alike the maps of a trained network and of one with freshly drawn weights are, over the images.

    A map that stays the same when all that was learnt is gone shows the image, not what the network learnt of it.

    Shapes:
        maps, others: (B, H, W).

    Returns:
        The mean rank correlation of the images where it is defined; None where it is for none of them.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    found = [rank_correlation(heat, other) for heat, other in zip(maps, others, strict=True)]
    defined = [value for value in found if value is not None]
    return float(np.mean(defined)) if defined else None


def hardly_changes(similarity: float | None) -> bool:
    """Whether a method is flagged: its maps hardly change when the weights are drawn anew."""
    return similarity is not None and similarity > MAX_SIMILARITY
