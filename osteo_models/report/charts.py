"""Charts as inline SVG, and forest plots as data for a template; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]
SIZE, SMALL = (340, 300), (260, 205)  # width and height
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 10, 42


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; both are positive when it is logarithmic."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    digits: int = 1
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Position of a value, from 0 at the low end to 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """A line in data coordinates; `style` is a class of the style sheet."""

    points: Points
    style: str


@dataclass(frozen=True)
class Band:
    """The area between two lines over the same x."""

    lower: Points
    upper: Points
    style: str


@dataclass(frozen=True)
class Dot:
    """A point with a tooltip, and a vertical interval where `low` and `high` are given."""

    x: float
    y: float
    style: str
    tooltip: str = ""
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
    """One or two drawings with their legend and source files."""

    title: str
    drawings: list[Markup]
    legend: list[Legend] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Mark:
    """A line of a forest plot; numbers are None where they are undefined.

    Attributes:
        text: The figure as printed, with `detail` behind it and `note` below.
        ring, printed: Further values on the same line: of the image protocol, and of the paper.
    """

    label: str
    text: str
    value: float | None
    low: float | None
    high: float | None
    kind: str = "patient"
    note: str = ""
    source: str = ""
    detail: str = ""
    ring: float | None = None
    printed: float | None = None


@dataclass(frozen=True)
class Forest:
    """Marks by group title on an axis from `low` to `high`; `line` is the value of no effect."""

    title: str
    groups: dict[str, list[Mark]]
    ticks: Sequence[float]
    line: float | None = None

    @property
    def marks(self) -> list[Mark]:
        """The marks of all groups."""
        return [mark for marks in self.groups.values() for mark in marks]

    def place(self, value: float) -> str:
        """Position of a value in per cent of the width; values off the axis are drawn at its end."""
        low, high = self.ticks[0], self.ticks[-1]
        return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}"

    def width(self, low: float, high: float) -> str:
        """Width of an interval in per cent."""
        return f"{float(self.place(high)) - float(self.place(low)):.2f}"


def draw_chart(
    description: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line] = (),
    bands: Sequence[Band] = (),
    dots: Sequence[Dot] = (),
    *,
    size: tuple[int, int] = SIZE,
) -> Markup:
    """A chart with axes, grid, bands below, lines above and dots on top.

    Args:
        description: Text for screen readers.
        size: Width and height of the drawing.
    """
    frame = _Frame(x, y, *size)
    parts = [frame.draw_axes()]
    for band in bands:
        if band.lower:
            parts.append(f'<path class="band {band.style}" d="{frame.path([*band.lower, *reversed(band.upper)])}Z"/>')
    for line in lines:
        if line.points:
            parts.append(f'<path class="line {line.style}" d="{frame.path(line.points)}"/>')
    parts += [frame.draw_dot(dot) for dot in dots]
    return make_svg("chart", *size, description, parts)


def make_svg(kind: str, width: float, height: float, description: str, parts: Sequence[str], extra: str = "") -> Markup:
    """A drawing; its parts are markup whose text is escaped."""
    head = (
        f'<svg class="{kind}" viewBox="0 0 {width} {height:.0f}" {extra}role="img" aria-label="{escape(description)}">'
    )
    return Markup(head + "".join(parts) + "</svg>")


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing's coordinates."""

    x: Axis
    y: Axis
    width: int
    height: int

    def across(self, value: float) -> float:
        return LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)

    def down(self, value: float) -> float:
        inside = min(max(value, self.y.low), self.y.high)
        return self.height - BOTTOM - self.y.share(inside) * (self.height - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.across(x):.1f} {self.down(y):.1f}" for x, y in points)

    def draw_dot(self, dot: Dot) -> str:
        x, whisker = self.across(dot.x), ""
        if dot.low is not None and dot.high is not None:
            ends = f"M{x:.1f} {self.down(dot.low):.1f}V{self.down(dot.high):.1f}"
            whisker = f'<path class="line whisker {dot.style}" d="{ends}"/>'
        tooltip = f"<title>{escape(dot.tooltip)}</title>" if dot.tooltip else ""
        centre = f'cx="{x:.1f}" cy="{self.down(dot.y):.1f}" r="3.6"'
        return f'{whisker}<circle class="dot {dot.style}" {centre}>{tooltip}</circle>'

    def draw_axes(self) -> str:
        floor, right, parts = self.height - BOTTOM, self.width - RIGHT, []
        for tick in self.y.ticks:
            level = self.down(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
            parts.append(draw_text(LEFT - 6, level + 4, f"{tick:.{self.y.digits}f}", "end"))
        for tick in self.x.ticks:
            x = self.across(tick)
            parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
            parts.append(draw_text(x, floor + 17, f"{tick:,.{self.x.digits}f}"))
        parts.append(f'<line class="tick" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
        parts.append(draw_text((LEFT + right) / 2, self.height - 6, self.x.label, kind="axis"))
        turned = f"translate(12 {(TOP + floor) / 2}) rotate(-90)"
        label = escape(self.y.label)
        parts.append(f'<text class="axis" transform="{turned}" text-anchor="middle">{label}</text>')
        return "".join(parts)


def draw_text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    style = f'class="{kind}" ' if kind else ""
    return f'<text {style}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to at least `high`."""
    rough = (high - low) / max(1, count)
    if rough <= 0:
        return [low, low + 1]
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def choose_decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2, 5 times the powers of ten between two positive numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
