"""Images of different patients that look the same: by the bits of their looks, in memory that grows with their number.

Looks that differ in at most 8 bits agree in at least one of 9 bands of bits, so only those that share a band are
compared. A band takes every ninth bit: what is mere background of one image then fills no whole band.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

MOST_DIFFERENT_BITS: Final = 8  # of 256, between images that look alike
BANDS: Final = MOST_DIFFERENT_BITS + 1
NOBODY: Final = -1

Numbers = npt.NDArray[np.int64]
Looks = npt.NDArray[np.uint64]


class _Best:
    """For each look the most alike image so far, and the most alike one of another patient than that image's.

    One of the two is of another patient than whoever asks. An image's rank is its distance, then its number.
    """

    def __init__(self, count: int) -> None:
        self.first, self.second = np.full((2, count), np.iinfo(np.int64).max)
        self.patient = np.full(count, NOBODY, np.int64)

    def offer(self, looks: Numbers, ranks: Numbers, patients: Numbers) -> None:
        """Take candidates into account: one for each of these looks, none of which may come twice."""
        first, second, whose = self.first[looks], self.second[looks], self.patient[looks]
        better, other = ranks < first, patients != whose
        self.second[looks] = np.where(other, np.where(better, first, np.minimum(second, ranks)), second)
        self.first[looks] = np.where(better, ranks, first)
        self.patient[looks] = np.where(better, patients, whose)


def find_nearest_of_others(looks: Looks, patients: npt.NDArray[np.intp]) -> Numbers:
    """For each image the most alike one of another patient, the first of several; -1 where none is alike.

    Shapes:
        looks: (N, words of 64 bits), N at least 1.
        patients: (N,), numbers that stand for them.
    """
    distinct, of_image = np.unique(looks, axis=0, return_inverse=True)
    of_image = of_image.reshape(-1)  # numpy 2.0 gave it another shape
    own = _rank_within(of_image, patients, len(distinct))
    best = _Best(len(distinct))
    size = len(looks)
    everywhere = np.arange(len(distinct))
    for ranks in own:
        _offer(best, everywhere, everywhere, np.zeros_like(everywhere), ranks, patients)
    for left, right in _list_pairs(distinct):
        apart = np.bitwise_count(distinct[left] ^ distinct[right]).sum(axis=1, dtype=np.int64)
        alike = apart <= MOST_DIFFERENT_BITS
        left, right, far = left[alike], right[alike], apart[alike] * size
        for ranks in own:
            _offer(best, left, right, far, ranks, patients)
            _offer(best, right, left, far, ranks, patients)
    found = np.where(best.patient[of_image] != patients, best.first[of_image], best.second[of_image])
    return np.where(found < np.iinfo(np.int64).max, found % size, NOBODY)


def _offer(best: _Best, looks: Numbers, seen: Numbers, far: Numbers, images: Numbers, patients: Numbers) -> None:
    """Offer each look the image that another look stands for, where it stands for one."""
    numbers = images[seen]
    there = numbers != NOBODY
    best.offer(looks[there], (far + numbers)[there], patients[numbers[there]])


def _rank_within(of_image: Numbers, patients: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """The first image of each look, and the first one of another patient than that; -1 where there is none."""
    first, second = np.full((2, count), NOBODY, np.int64)
    backwards = np.arange(len(of_image))[::-1]  # where several are assigned, the last one stays
    first[of_image[backwards]] = backwards
    others = backwards[patients[backwards] != patients[first[of_image[backwards]]]]
    second[of_image[others]] = others
    return first, second


def _list_pairs(looks: Looks) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs that share a band, some more than once; within what is given at once, each stands on a side only once."""
    octets = looks.view(np.uint8).reshape(len(looks), -1)
    for band in range(BANDS):
        bits = np.unpackbits(octets, axis=1)[:, band::BANDS]
        _, keys = np.unique(np.packbits(bits, axis=1), axis=0, return_inverse=True)
        order = np.argsort(keys.reshape(-1), kind="stable")
        ranked = keys.reshape(-1)[order]
        at, step = np.arange(len(order)), 1
        while len(at):
            at = at[at + step < len(order)]
            at = at[ranked[at] == ranked[at + step]]
            yield order[at], order[at + step]
            step += 1
