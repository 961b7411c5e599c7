"""Nearly identical images of different patients, by difference hashes, in memory linear in their number.

Hashes that differ in at most 8 bits agree in at least one of 9 bands of bits, so only hashes that share a band are
compared. A band takes every ninth bit, so that the background of an image does not fill a whole band.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_DIFFERENT_BITS: Final = 8  # of 256, between near duplicates
BANDS: Final = MAX_DIFFERENT_BITS + 1
NONE: Final = -1

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class _Best:
    """For each hash the nearest image so far, and the nearest one of another patient than that image's.

    One of the two is of another patient than any given one. Images are ranked by distance, then by number.
    """

    def __init__(self, count: int) -> None:
        self.first, self.second = np.full((2, count), np.iinfo(np.int64).max)
        self.patient = np.full(count, NONE, np.int64)

    def offer(self, hashes: Numbers, ranks: Numbers, patients: Numbers) -> None:
        """Add candidates, one for each of these hashes, which must be distinct."""
        first, second, owners = self.first[hashes], self.second[hashes], self.patient[hashes]
        better, other = ranks < first, patients != owners
        self.second[hashes] = np.where(other, np.where(better, first, np.minimum(second, ranks)), second)
        self.first[hashes] = np.where(better, ranks, first)
        self.patient[hashes] = np.where(better, patients, owners)


def find_near_duplicates(hashes: Hashes, patients: npt.NDArray[np.intp]) -> Numbers:
    """For each image the nearest one of another patient, the first of several; -1 where none is near.

    Shapes:
        hashes: (N, words of 64 bits), N at least 1.
        patients: (N,), numbers that stand for them.
    """
    distinct, of_image = np.unique(hashes, axis=0, return_inverse=True)
    of_image = of_image.reshape(-1)  # numpy 2.0 gave it another shape
    own = _rank_within(of_image, patients, len(distinct))
    best = _Best(len(distinct))
    size = len(hashes)
    everywhere = np.arange(len(distinct))
    for ranks in own:
        _offer(best, everywhere, everywhere, np.zeros_like(everywhere), ranks, patients)
    for left, right in _candidate_pairs(distinct):
        apart = np.bitwise_count(distinct[left] ^ distinct[right]).sum(axis=1, dtype=np.int64)
        near = apart <= MAX_DIFFERENT_BITS
        left, right, far = left[near], right[near], apart[near] * size
        for ranks in own:
            _offer(best, left, right, far, ranks, patients)
            _offer(best, right, left, far, ranks, patients)
    nearest = np.where(best.patient[of_image] != patients, best.first[of_image], best.second[of_image])
    return np.where(nearest < np.iinfo(np.int64).max, nearest % size, NONE)


def _offer(best: _Best, hashes: Numbers, others: Numbers, far: Numbers, images: Numbers, patients: Numbers) -> None:
    """Offer each hash the image of another hash, where it has one."""
    numbers = images[others]
    present = numbers != NONE
    best.offer(hashes[present], (far + numbers)[present], patients[numbers[present]])


def _rank_within(of_image: Numbers, patients: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """The first image of each hash, and the first one of another patient than that; -1 where there is none."""
    first, second = np.full((2, count), NONE, np.int64)
    backwards = np.arange(len(of_image))[::-1]  # where several are assigned, the last one stays
    first[of_image[backwards]] = backwards
    others = backwards[patients[backwards] != patients[first[of_image[backwards]]]]
    second[of_image[others]] = others
    return first, second


def _candidate_pairs(hashes: Hashes) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs that share a band, some repeatedly; in each yielded batch, a hash occurs once per side."""
    octets = hashes.view(np.uint8).reshape(len(hashes), -1)
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
