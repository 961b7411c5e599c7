"""Forest plots: a value and its interval on one line each, on a common axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A line of the plot; numbers are None where they are undefined."""

    label: str
    text: str
    value: float | None
    low: float | None
    high: float | None
    kind: str = "patient"
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Forest:
    """Lines on an axis from `low` to `high`; `line` is the value that means "nothing"."""

    title: str
    marks: Sequence[Mark]
    low: float
    high: float
    ticks: Sequence[float]
    line: float

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the width; what lies beyond is drawn at the edge."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(1.0, max(0.0, share))
