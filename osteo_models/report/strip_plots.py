"""Strip plots: every image's score on one line per patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from osteo_models.core.terms import CLASS_NAMES

WIDTH, LABEL, RIGHT, TOP, BOTTOM = 340, 74, 60, 16, 34


@dataclass(frozen=True)
class Strip:
    """One patient: the scores of the images, and what stands beside them."""

    label: str
    target: int
    scores: Sequence[float]
    note: str


def draw_strip(scores: Sequence[float], threshold: float, target: int, description: str) -> Markup:
    """One patient's scores as marks between 0 and 1, with the threshold, for a cell of a table."""
    marks = "".join(f"M{100 * score:.1f} 4v12" for score in scores)
    return Markup(
        f'<svg class="strip" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(description)}"><path class="base" d="M0 10H100"/>'
        f'<path class="cut" d="M{100 * threshold:.1f} 0v20"/>'
        f'<path class="marks c-{CLASS_NAMES[target]}" d="{marks}"/></svg>'
    )


def draw_strips(description: str, strips: Sequence[Strip], threshold: float) -> Markup:
    """A plot with a line per patient: a mark for each image, a ring at the mean, the threshold dashed.

    Many patients stand closer, and without their names.
    """
    named = len(strips) <= 40
    pitch = 15 if named else 5.5
    left = LABEL if named else 20
    height = TOP + pitch * len(strips) + BOTTOM
    floor = height - BOTTOM

    def across(score: float) -> float:
        return left + score * (WIDTH - left - RIGHT)

    parts = [
        f'<svg class="chart strips" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(description)}">'
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        spot = across(tick)
        parts.append(f'<path class="tick" d="M{spot:.1f} {floor:.1f}v4"/>')
        parts.append(f'<text x="{spot:.1f}" y="{floor + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    cut = across(threshold)
    parts.append(f'<path class="line cut" d="M{cut:.1f} {TOP - 6}V{floor:.1f}"/>')
    parts.append(f'<path class="tick" d="M{left} {floor:.1f}H{WIDTH - RIGHT}"/>')
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{height - 3:.1f}" text-anchor="middle">score</text>')
    for row, strip in enumerate(strips):
        parts += _draw_row(strip, TOP + pitch * (row + 0.5), pitch, across, named=named)
    return Markup("".join(parts) + "</svg>")


def _draw_row(strip: Strip, level: float, pitch: float, across, *, named: bool) -> list[str]:
    kind, half = f"c-{CLASS_NAMES[strip.target]}", pitch * 0.36
    marks = "".join(f"M{across(score):.1f} {level - half:.1f}v{2 * half:.1f}" for score in strip.scores)
    mean = sum(strip.scores) / len(strip.scores)
    parts = [
        f'<path class="row" d="M{across(0):.1f} {level:.1f}H{across(1):.1f}"/>',
        f'<path class="marks {kind}" d="{marks}"/>',
        f'<circle class="mean {kind}" cx="{across(mean):.1f}" cy="{level:.1f}" r="{min(3.2, 0.42 * pitch):.1f}"/>',
    ]
    if named:
        shown = strip.label if len(strip.label) <= 11 else f"{strip.label[:10]}…"
        parts.append(f'<text x="{LABEL - 8}" y="{level + 4:.1f}" text-anchor="end">{escape(shown)}</text>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{level + 4:.1f}">{escape(strip.note)}</text>')
    return parts
