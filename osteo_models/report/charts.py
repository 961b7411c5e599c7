"""Line charts as inline SVG: no library, no script, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 300
SMALL_WIDTH, SMALL_HEIGHT = 260, 205
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 10, 42


@dataclass(frozen=True)
class Axis:
    """A linear axis; `ticks` lie within low and high."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    digits: int = 1


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


def draw_chart(
    description: str, x: Axis, y: Axis, lines: Sequence[Line], bands: Sequence[Band] = (), *, small: bool = False
) -> Markup:
    """A chart with axes, grid, bands below and lines above; `description` is its text for those who do not see it."""
    width, height = (SMALL_WIDTH, SMALL_HEIGHT) if small else (WIDTH, HEIGHT)
    place = _Place(x, y, width, height)
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">']
    parts += [_draw_axes(place)]
    for band in bands:
        corners = [*band.lower, *reversed(band.upper)]
        parts.append(f'<path class="band {band.style}" d="{place.path(corners)}Z"/>')
    for line in lines:
        if line.points:
            parts.append(f'<path class="line {line.style}" d="{place.path(line.points)}"/>')
    return Markup("".join(parts) + "</svg>")  # labels are escaped, the rest is numbers


@dataclass(frozen=True)
class _Place:
    """From data to the drawing's coordinates."""

    x: Axis
    y: Axis
    width: int
    height: int

    def across(self, value: float) -> float:
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return LEFT + share * (self.width - LEFT - RIGHT)

    def down(self, value: float) -> float:
        share = (min(max(value, self.y.low), self.y.high) - self.y.low) / (self.y.high - self.y.low)
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.across(x):.1f} {self.down(y):.1f}" for x, y in points)


def _draw_axes(place: _Place) -> str:
    floor, right, parts = place.height - BOTTOM, place.width - RIGHT, []
    for tick in place.y.ticks:
        level = place.down(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{tick:.{place.y.digits}f}</text>')
    for tick in place.x.ticks:
        spot = place.across(tick)
        parts.append(f'<line class="tick" x1="{spot:.1f}" x2="{spot:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{spot:.1f}" y="{floor + 17}" text-anchor="middle">{tick:.{place.x.digits}f}</text>')
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


def draw_strip(scores: Sequence[float], threshold: float, description: str) -> Markup:
    """Each score as a mark between 0 and 1, with the threshold."""
    marks = "".join(f"M{100 * score:.1f} 4v12" for score in scores)
    return Markup(
        f'<svg class="strip" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(description)}"><path class="base" d="M0 10H100"/>'
        f'<path class="cut" d="M{100 * threshold:.1f} 0v20"/><path class="marks" d="{marks}"/></svg>'
    )
