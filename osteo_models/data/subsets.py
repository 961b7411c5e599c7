"""Whole patients whose images add up to a wanted number: subset sums by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence


def find_subset(sizes: Sequence[int], wanted: int) -> list[int]:
    """Indexes whose sizes add up to `wanted`, or to the largest sum below it; empty when none fits.

    Earlier indexes are preferred, so that a shuffled list gives a random, reproducible answer.
    """
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for index, size in enumerate(sizes):
        for total, chosen in list(reached.items()):
            if total + size <= wanted and total + size not in reached:
                reached[total + size] = (*chosen, index)
        if wanted in reached:
            break
    return list(reached[max(reached)])


def find_subset_of_bins(bins: Sequence[Sequence[int]], wanted: int) -> list[int]:
    """One index from each bin, the sizes adding up as near to `wanted` as can be (exactly, where possible).

    Returns:
        The position chosen in each bin, as many as there are bins.
    """
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for sizes in bins:
        step: dict[int, tuple[int, ...]] = {}
        for total, chosen in reached.items():
            for position, size in enumerate(sizes):
                step.setdefault(total + size, (*chosen, position))
        reached = step
    nearest = min(reached, key=lambda total: (abs(total - wanted), total))
    return list(reached[nearest])
