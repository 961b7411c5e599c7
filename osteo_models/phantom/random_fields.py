"""Random draws that are the same bytes on every machine, and smooth fields made of them.

Only the raw integers of a counter-based generator are used: they are guaranteed by its definition, while NumPy's
distributions may change and its float functions may differ in the last bit between processors. What follows from
them takes additions, products, divisions and square roots alone, which IEEE 754 rounds exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating]  # float32 at run time: Python numbers do not widen it
Item = TypeVar("Item")

NORMAL_TERMS: Final = 12  # a sum of 12 uniforms has variance 1
FOUR_SD: Final = 37837.0  # of a sum of four whole numbers of 16 bits: sqrt(4 (2^32 - 1) / 12)
TWO_SD: Final = 26754.8


def digest(*names: object) -> bytes:
    """SHA-256 over the names, the root of every stream and identifier."""
    return hashlib.sha256("/".join(map(str, names)).encode()).digest()


class Draws:
    """A stream of draws named by what it is for, such as `Draws(2023, "anatomy", patient_id)`."""

    def __init__(self, *names: object) -> None:
        self._bits = np.random.Philox(key=int.from_bytes(digest(*names)[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """From [low, high)."""
        return low + (high - low) * (float(int(self._bits.random_raw()) >> 11) / 9007199254740992.0)

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> float:
        """Bell-shaped, within six standard deviations."""
        total = 0.0
        for _ in range(NORMAL_TERMS):
            total += self.uniform()
        return mean + sd * (total - NORMAL_TERMS / 2)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included; the bias of the remainder is below 2^-50."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """A new list in random order."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = self.integer(0, last)
            out[last], out[other] = out[other], out[last]
        return out

    def white(self, rows: int, columns: int) -> Field:
        """Independent, nearly normal values of mean 0 and standard deviation 1.

        Shapes:
            returns (rows, columns).
        """
        quarters = self._quarters(rows * columns)
        total = (quarters[0] + quarters[1]) + (quarters[2] + quarters[3])
        return ((total - 131070).astype(np.float32) * np.float32(1 / FOUR_SD)).reshape(rows, columns)

    def white_pair(self, rows: int, columns: int) -> tuple[Field, Field]:
        """Two independent fields of mean 0 and standard deviation 1, of half the draws: sums of two uniforms."""
        quarters = self._quarters(rows * columns)
        totals = (quarters[0] + quarters[1], quarters[2] + quarters[3])
        first, second = ((total - 65535).astype(np.float32) * np.float32(1 / TWO_SD) for total in totals)
        return first.reshape(rows, columns), second.reshape(rows, columns)

    def _quarters(self, count: int) -> list[npt.NDArray[np.int32]]:
        """Four whole numbers of 16 bits from each raw draw."""
        words = np.asarray(self._bits.random_raw(count)).astype("<u8", copy=False).view("<u2").reshape(count, 4)
        return [words[:, index].astype(np.int32) for index in range(4)]

    def smooth(self, rows: int, columns: int, cell_rows: float, cell_columns: float) -> Field:
        """A field that varies smoothly over cells of the given size in pixels; standard deviation about 0.6.

        Shapes:
            returns (rows, columns).
        """
        down, down_part = _cells(rows, cell_rows, self.uniform())
        along, along_part = _cells(columns, cell_columns, self.uniform())
        knots = self.white(int(down[-1]) + 2, int(along[-1]) + 2)
        upper, steps = knots[:-1], knots[1:] - knots[:-1]
        lines = upper.take(down, axis=0) + steps.take(down, axis=0) * down_part[:, None]
        field = (lines[:, 1:] - lines[:, :-1]).take(along, axis=1)
        field *= along_part
        field += lines.take(along, axis=1)
        return field


def _cells(count: int, size: float, offset: float) -> tuple[npt.NDArray[np.intp], Field]:
    position = np.arange(count, dtype=np.float64) / size + offset
    cell = np.floor(position)
    return cell.astype(np.intp), smoothstep((position - cell).astype(np.float32))


def smoothstep(value: Field) -> Field:
    """0 below 0, 1 above 1, between them 3 v^2 - 2 v^3."""
    clipped = np.maximum(value, 0)
    np.minimum(clipped, 1, out=clipped)
    height = clipped * -2
    height += 3
    height *= clipped
    height *= clipped
    return height


def step_between(value: float, low: float, high: float) -> float:
    """`smoothstep` of one number over [low, high]."""
    part = min(1.0, max(0.0, (value - low) / (high - low)))
    return part * part * (3.0 - 2.0 * part)


def blur3(image: Field) -> Field:
    """Binomial blur 1-2-1 along both axes, edges repeated."""
    padded = np.pad(image, 1, mode="edge")
    half, quarter = np.float32(0.5), np.float32(0.25)
    rows = padded[1:-1] * half + (padded[:-2] + padded[2:]) * quarter
    return rows[:, 1:-1] * half + (rows[:, :-2] + rows[:, 2:]) * quarter
