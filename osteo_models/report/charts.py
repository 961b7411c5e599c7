"""Charts as inline SVG: no library, no script, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 300
SMALL_WIDTH, SMALL_HEIGHT = 260, 205
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 10, 42


@dataclass(frozen=True)
class Axis:
    """An axis; `ticks` lie within low and high. A logarithmic one has positive ends."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    digits: int = 1
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at the low end to 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """A line in data coordinates; `style` is a class of the style sheet."""

    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Band:
    """The area between two lines over the same x."""

    lower: Sequence[tuple[float, float]]
    upper: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Dot:
    """A point with its words, and an upright interval where it has one."""

    x: float
    y: float
    style: str
    words: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Legend:
    """A line of a chart in words."""

    style: str
    label: str
    value: str


@dataclass(frozen=True)
class Panel:
    """One or two drawings with their words and the files they come from."""

    title: str
    drawings: list[Markup]
    legend: list[Legend] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def draw_chart(
    description: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line] = (),
    bands: Sequence[Band] = (),
    dots: Sequence[Dot] = (),
    *,
    small: bool = False,
    size: tuple[int, int] | None = None,
) -> Markup:
    """A chart with axes, grid, bands below, lines above and dots on top.

    Args:
        description: The chart's text for those who do not see it.
        size: Width and height of the drawing; `small` or the usual size when not given.
    """
    width, height = size or ((SMALL_WIDTH, SMALL_HEIGHT) if small else (WIDTH, HEIGHT))
    place = _Place(x, y, width, height)
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">']
    parts += [_draw_axes(place)]
    for band in bands:
        corners = [*band.lower, *reversed(band.upper)]
        if corners:
            parts.append(f'<path class="band {band.style}" d="{place.path(corners)}Z"/>')
    for line in lines:
        if line.points:
            parts.append(f'<path class="line {line.style}" d="{place.path(line.points)}"/>')
    parts += [_draw_dot(place, dot) for dot in dots]
    return Markup("".join(parts) + "</svg>")  # labels are escaped, the rest is numbers


@dataclass(frozen=True)
class _Place:
    """From data to the drawing's coordinates."""

    x: Axis
    y: Axis
    width: int
    height: int

    def across(self, value: float) -> float:
        return LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)

    def down(self, value: float) -> float:
        inside = min(max(value, self.y.low), self.y.high)
        return self.height - BOTTOM - self.y.share(inside) * (self.height - TOP - BOTTOM)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.across(x):.1f} {self.down(y):.1f}" for x, y in points)


def _draw_dot(place: _Place, dot: Dot) -> str:
    across = place.across(dot.x)
    whisker = ""
    if dot.low is not None and dot.high is not None:
        ends = f"M{across:.1f} {place.down(dot.low):.1f}V{place.down(dot.high):.1f}"
        whisker = f'<path class="line whisker {dot.style}" d="{ends}"/>'
    words = f"<title>{escape(dot.words)}</title>" if dot.words else ""
    spot = f'cx="{across:.1f}" cy="{place.down(dot.y):.1f}" r="3.6"'
    return f'{whisker}<circle class="dot {dot.style}" {spot}>{words}</circle>'


def _draw_axes(place: _Place) -> str:
    floor, right, parts = place.height - BOTTOM, place.width - RIGHT, []
    for tick in place.y.ticks:
        level = place.down(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{tick:.{place.y.digits}f}</text>')
    for tick in place.x.ticks:
        spot = place.across(tick)
        parts.append(f'<line class="tick" x1="{spot:.1f}" x2="{spot:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{spot:.1f}" y="{floor + 17}" text-anchor="middle">{tick:,.{place.x.digits}f}</text>')
    parts.append(f'<line class="tick" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    middle, centre = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{place.height - 6}" text-anchor="middle">{escape(place.x.label)}</text>'
    )
    parts.append(
        f'<text class="axis" transform="translate(12 {centre}) rotate(-90)" text-anchor="middle">'
        f"{escape(place.y.label)}</text>"
    )
    return "".join(parts)


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to at least `high`."""
    rough = (high - low) / max(1, count)
    if rough <= 0:
        return [low, low + 1]
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step)
    last = math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def choose_decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2, 5 times the powers of ten that lie between two positive numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


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
