"""Outlines of bones as signed distances in mm, positive inside, from the slice's coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from osteo_models.data.phantom.anatomy import Vertebra
from osteo_models.data.phantom.draws import Field


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
