"""Outlines of bones as signed distances in mm, positive inside, from the slice's coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from osteo_models.core.terms import Modality
from osteo_models.phantom.anatomy import FIRST_LUMBAR, SACRUM, Anatomy, Vertebra
from osteo_models.phantom.random_fields import Field, step_between
from osteo_models.phantom.scene import Canvas, bump, cover, paint
from osteo_models.phantom.tissue import Bone, bone_of


@dataclass(frozen=True)
class LocalGrid:
    """A window of the slice in the axes of one vertebra.

    Shapes:
        back, down: those of the window; mm from the vertebra's middle along its back and its down axis.
    """

    window: tuple[slice, slice]
    back: Field
    down: Field


def local_grid(
    vertebra: Vertebra, x: Field, y: Field, spacing: float, reach: tuple[float, float, float, float]
) -> LocalGrid:
    """Cut a window that reaches (front, back, up, down) mm from the vertebra's middle."""
    front, back, above, below = reach
    rows, columns = x.shape
    left, right = _span(vertebra.x - front, vertebra.x + back, spacing, columns)
    top, bottom = _span(vertebra.y - above, vertebra.y + below, spacing, rows)
    window = (slice(top, bottom), slice(left, right))
    away_x, away_y = x[window] - vertebra.x, y[window] - vertebra.y
    back_axis = away_x * vertebra.cos + away_y * vertebra.sin
    return LocalGrid(window, back_axis, away_y * vertebra.cos - away_x * vertebra.sin)


def _span(low: float, high: float, spacing: float, count: int) -> tuple[int, int]:
    first, last = int(low / spacing) if low > 0 else 0, int(high / spacing) + 1 if high > 0 else 0
    return min(first, count), min(max(last, first), count)


def round_min(first: Field, second: Field, radius: float) -> Field:
    """The smaller of two distances, with the corner rounded: the outline of a meeting of two sides."""
    part = np.clip((second - first) * (0.5 / radius) + 0.5, 0.0, 1.0)
    return second + (first - second) * part - part * (1.0 - part) * radius


def body_outline(vertebra: Vertebra, grid: LocalGrid, lateral: float) -> tuple[Field, Field]:
    """The vertebral body.

    Args:
        lateral: The slice's distance from the vertebra's middle: bodies are round seen from above.

    Returns:
        Distances inside the whole outline, and inside the end plates alone.
    """
    side = min(1.0, abs(lateral) / 26.0)
    squared = side * side
    round_off = max(0.05, 1.0 - squared * squared)
    depth = vertebra.depth * sqrt(round_off)
    along, across = grid.back * (1 / depth), grid.down * (1 / vertebra.height)
    arch = np.maximum(1.0 - along * along, 0.0)
    hollow = 1.0 - 0.7 * squared
    front_loss = 1.0 - vertebra.wedge * np.clip(0.5 - along * 0.5, 0.0, 1.2)
    # The hollow of the lower plate lies further back than that of the upper.
    upper = grid.down + vertebra.height * front_loss - vertebra.bow[0] * hollow * arch
    lower = vertebra.height * front_loss - grid.down - vertebra.bow[1] * hollow * arch * (1.0 + 0.5 * along)
    plates = round_min(upper, lower, 1.0)
    level = across * across
    narrow = depth * (1.0 - vertebra.waist * np.maximum(1.0 - level, 0.0) + vertebra.taper * across)
    spur = vertebra.lip * np.clip((level - 0.55) * 2.2, 0.0, 1.0)
    front = grid.back + narrow + spur
    rear = narrow + (spur * 0.35 - depth * vertebra.waist * 0.15) - grid.back
    return round_min(plates, round_min(front, rear, 1.0), 1.6), plates


def box_outline(
    grid: LocalGrid, back: tuple[float, float], down: tuple[float, float], slopes: tuple[float, float], radius: float
) -> Field:
    """A rounded four-sided outline whose upper and lower sides have slopes of their own (down per back)."""
    away = grid.back - back[0]
    sides = round_min(away, back[1] - grid.back, radius)
    above = grid.down - (down[0] + away * slopes[0])
    below = (down[1] + away * slopes[1]) - grid.down
    return round_min(sides, round_min(above, below, radius), radius)


def mass_outline(grid: LocalGrid, centre: float, slant: float, half_width: float, down: tuple[float, float]) -> Field:
    """The articular mass: a slanted column from the upper to the lower facet."""
    middle = grid.back - (centre + slant * grid.down)
    width = half_width - np.abs(middle)
    ends = round_min(grid.down - down[0], down[1] - grid.down, 4.0)
    return round_min(width, ends, 4.0)


def paint_arches(canvas: Canvas, anatomy: Anatomy, position: float, modality: Modality) -> None:
    """Paint the posterior elements of all vertebrae, from above."""
    for index, vertebra in enumerate(anatomy.vertebrae[: SACRUM + 1]):
        rear, lateral = vertebra.depth + anatomy.canal, abs(position - vertebra.lateral)
        reach = (4.0 - vertebra.depth, rear + 42.0, vertebra.height + 6.0, vertebra.height + 34.0)
        grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, reach)
        if grid.back.size == 0:
            continue
        bone = bone_of(vertebra, anatomy, modality)
        noise = canvas.field("strut", grid.window) + canvas.field("patch", grid.window) * 0.8
        uneven = canvas.field("lobule", grid.window) * 1.3 + canvas.field("patch", grid.window) * 0.9
        view = canvas.image[grid.window]
        if index < SACRUM:
            # The part of the slice's thickness that each piece fills.
            pedicle = step_between(lateral, 7.5, 11.0) * (1.0 - step_between(lateral, 17.0, 21.0))
            mass = step_between(lateral, 9.0, 13.5) * (1.0 - step_between(lateral, 20.0, 25.0))
            lamina = step_between(lateral, 1.0, 4.0) * (1.0 - step_between(lateral, 11.0, 14.5))
            if pedicle > 0:
                _paint_part(view, _pedicle(grid, vertebra, rear), pedicle, 0.2, bone, noise, modality)
            if mass > 0:
                outline = mass_outline(grid, vertebra.depth + 15.0, 0.20, 6.4, _facets(vertebra)) + uneven * 0.6
                _paint_part(view, outline, mass, 0.7, bone, noise, modality)
            if lamina > 0:
                _paint_part(view, _lamina(grid, rear, anatomy) + uneven * 0.7, lamina, 1.0, bone, noise, modality)
        middle = 1.0 - step_between(lateral, 3.2, 6.8)
        if middle > 0:
            outline = _process(grid, vertebra, rear, anatomy, index) + uneven
            _paint_part(view, outline, middle, 0.3, bone, noise, modality)


def _process(grid: LocalGrid, vertebra: Vertebra, rear: float, anatomy: Anatomy, index: int) -> Field:
    """The spinous process: a broad blade in the lumbar spine, slender and steep above it, a crest on the sacrum."""
    size = anatomy.size * vertebra.process
    if index == SACRUM:
        return box_outline(grid, (rear - 1.0, rear + 13.0 * size), (-3.0, 8.0), (0.1, 0.3), 3.0)
    lumbar = index >= FIRST_LUMBAR
    length = (30.0 if lumbar else 33.0) * size * (0.72 if index == SACRUM - 1 else 1.0)
    top, bottom, slope = (2.5, 16.0, 0.08) if lumbar else (6.0, 15.5, 0.42)
    slope += (vertebra.process - 1.0) * 0.8
    blade = box_outline(grid, (rear - 0.5, rear + length), (top * size, bottom * size), (slope, slope + 0.2), 7.0)
    return blade + bump(grid.back, rear + length * 0.78, 12.0) * 1.5 + bump(grid.back, rear + 2.0, 8.0) * 0.8


def _lamina(grid: LocalGrid, rear: float, anatomy: Anatomy) -> Field:
    tilted = replace(grid, back=grid.back - (grid.down - 10.0) * 0.32)
    return box_outline(tilted, (rear - 1.0, rear + 6.6), (1.0, 19.0 * anatomy.size), (0.0, 0.0), 4.0)


def _pedicle(grid: LocalGrid, vertebra: Vertebra, rear: float) -> Field:
    height = vertebra.height
    return box_outline(grid, (vertebra.depth - 4.0, rear + 3.0), (-0.78 * height, -0.02 * height), (0.06, -0.08), 4.0)


def _facets(vertebra: Vertebra) -> tuple[float, float]:
    return -1.15 * vertebra.height, 1.75 * vertebra.height


def _paint_part(
    view: Field, outline: Field, weight: float, dense: float, bone: Bone, noise: Field, modality: Modality
) -> None:
    """Paint one piece.

    Args:
        weight: How much of the slice's thickness it fills.
        dense: Share of cortical bone: laminae and facets are the densest.
    """
    if modality == "ct":
        inside = bone.inside * 0.92 + dense * (70.0 + bone.rim * 0.45)
        rim, width = bone.rim * (0.62 + 0.4 * dense), bone.width + 0.4 + 1.2 * dense
    else:
        inside = bone.inside * (1.05 - 0.3 * dense)
        rim, width = bone.rim * (0.9 - 0.3 * dense), bone.width + 0.2 + 0.5 * dense
    value = noise * (bone.grain * (1.8 + 2.6 * dense)) + inside
    value += bump(outline, 0.6, width) * (noise * 0.25 + 1.0) * rim
    paint(view, cover(outline + 0.3) * weight, value)
