"""Strip plots: every image's score on one line per patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from osteo_models.core.terms import CLASS_NAMES
from osteo_models.report.charts import SIZE, draw_text, make_svg

NAMED = 40  # with more patients in a plot the lines are closer and have no names


@dataclass(frozen=True)
class Strip:
    """One patient of a strip plot: the scores of the images, and a note at the end of the line."""

    label: str
    target: int
    scores: Sequence[float]
    note: str


def draw_strip(scores: Sequence[float], threshold: float, target: int, description: str) -> Markup:
    """The scores of one patient between 0 and 1, with the threshold, for a cell of a table."""
    marks = "".join(f"M{100 * score:.1f} 4v12" for score in scores)
    parts = [
        '<path class="base" d="M0 10H100"/>',
        f'<path class="cut" d="M{100 * threshold:.1f} 0v20"/>',
        f'<path class="marks c-{CLASS_NAMES[target]}" d="{marks}"/>',
    ]
    return make_svg("strip", 100, 20, description, parts, 'preserveAspectRatio="none" ')


def draw_strips(description: str, strips: Sequence[Strip], threshold: float) -> Markup:
    """A line per patient: a mark for each image, a ring at the mean, the threshold dashed."""
    named = len(strips) <= NAMED
    pitch, left, right, top = (15 if named else 5.5), (74 if named else 20), SIZE[0] - 60, 16
    floor = top + pitch * len(strips)

    def across(score: float) -> float:
        return left + score * (right - left)

    parts: list[str] = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="tick" d="M{across(tick):.1f} {floor:.1f}v4"/>')
        parts.append(draw_text(across(tick), floor + 16, f"{tick:g}"))
    parts.append(f'<path class="line cut" d="M{across(threshold):.1f} {top - 6}V{floor:.1f}"/>')
    parts.append(f'<path class="tick" d="M{left} {floor:.1f}H{right}"/>')
    parts.append(draw_text((left + right) / 2, floor + 31, "score", kind="axis"))
    for row, strip in enumerate(strips):
        parts += _draw_row(strip, top + pitch * (row + 0.5), pitch, across, named=named)
    return make_svg("chart strips", SIZE[0], floor + 34, description, parts)


def _draw_row(strip: Strip, level: float, pitch: float, across: Callable[[float], float], *, named: bool) -> list[str]:
    kind, half = f"c-{CLASS_NAMES[strip.target]}", pitch * 0.36
    marks = "".join(f"M{across(score):.1f} {level - half:.1f}v{2 * half:.1f}" for score in strip.scores)
    mean = across(sum(strip.scores) / len(strip.scores))
    parts = [
        f'<path class="row" d="M{across(0):.1f} {level:.1f}H{across(1):.1f}"/>',
        f'<path class="marks {kind}" d="{marks}"/>',
        f'<circle class="mean {kind}" cx="{mean:.1f}" cy="{level:.1f}" r="{min(3.2, 0.42 * pitch):.1f}"/>',
    ]
    if named:
        label = strip.label if len(strip.label) <= 11 else f"{strip.label[:10]}…"
        parts += [
            draw_text(across(0) - 8, level + 4, label, "end"),
            draw_text(across(1) + 8, level + 4, strip.note, "start"),
        ]
    return parts
