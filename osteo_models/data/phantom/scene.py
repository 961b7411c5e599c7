"""One slice as a canvas: coordinates, the person's own noise fields, lines along the column, and paint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osteo_models.data.phantom.anatomy import COLUMNS, ROWS, SACRUM, Anatomy
from osteo_models.data.phantom.draws import Draws, Field, smoothstep

# name: cell of the noise in mm (along the rows' axis, along the columns' axis)
_FIELDS = {
    "bend_x": (34.0, 34.0),
    "bend_y": (34.0, 34.0),
    "ripple_x": (6.0, 6.0),
    "ripple_y": (6.0, 6.0),
    "organ": (26.0, 16.0),
    "bowel": (11.0, 9.0),
    "streak": (26.0, 3.2),
    "lobule": (9.0, 5.0),
    "patch": (6.5, 6.5),
    "strut": (3.4, 1.7),
    "haze": (70.0, 50.0),
}


@dataclass(frozen=True)
class Volume:
    """What the slices of a person share: noise fields at the right and at the left end, blended between them."""

    right: dict[str, Field]
    left: dict[str, Field]

    def at(self, share: float, name: str) -> Field:
        """The field at a share of the way from right to left, from 0 to 1."""
        return self.right[name] + (self.left[name] - self.right[name]) * share


@dataclass(frozen=True)
class Canvas:
    """The slice being painted.

    Shapes:
        image, x, y: (ROWS, COLUMNS); the coordinates in mm are bent by smooth noise, so that nothing is straight.
        back_line, front_line, lateral: (ROWS,); the column's rear and front surface and its distance from the slice.
        behind, ahead: (ROWS, COLUMNS); mm behind the rear and ahead of the front surface.
    """

    image: Field
    x: Field
    y: Field
    lines_y: Field
    back_line: Field
    behind: Field
    ahead: Field
    lateral: Field
    volume: Volume
    share: float

    def field(self, name: str) -> Field:
        """One of the person's noise fields at this slice."""
        return self.volume.at(self.share, name)


def make_volume(anatomy: Anatomy, seed: int, patient_id: str) -> Volume:
    """Draw the noise fields of a person."""
    draws = Draws(seed, "fields", patient_id)
    ends = [
        {
            name: draws.smooth(ROWS, COLUMNS, down / anatomy.spacing, along / anatomy.spacing)
            for name, (down, along) in _FIELDS.items()
        }
        for _ in range(2)
    ]
    return Volume(ends[0], ends[1])


def make_canvas(anatomy: Anatomy, volume: Volume, position: float, background: float) -> Canvas:
    """An empty slice at a position in mm to the patient's left."""
    share = min(1.0, max(0.0, 0.5 + position / 52.0))
    rows = (np.arange(ROWS, dtype=np.float32) + np.float32(0.5)) * np.float32(anatomy.spacing)
    columns = (np.arange(COLUMNS, dtype=np.float32) + np.float32(0.5)) * np.float32(anatomy.spacing)
    x = columns[None, :] + volume.at(share, "bend_x") * 1.6 + volume.at(share, "ripple_x") * 0.55
    y = rows[:, None] + volume.at(share, "bend_y") * 1.6 + volume.at(share, "ripple_y") * 0.55
    vertebrae = anatomy.vertebrae
    rear = [(each, each.depth, sign * each.height) for each in vertebrae for sign in (-0.8, 0.8)]
    front = [(each, -each.depth, sign * each.height) for each in vertebrae for sign in (-0.8, 0.8)]
    back_line, front_line = (
        _smooth_line(
            rows,
            [each.y + back * each.sin + down * each.cos for each, back, down in points],
            [each.x + back * each.cos - down * each.sin for each, back, down in points],
            anatomy.spacing,
        )
        for points in (rear, front)
    )
    middles = [each.y for each in vertebrae]
    lateral = position - _line(rows, middles, [each.lateral for each in vertebrae])
    behind, ahead = ((x - back_line[:, None]) * _steepness(back_line, anatomy.spacing)[:, None],
                     (front_line[:, None] - x) * _steepness(front_line, anatomy.spacing)[:, None])  # fmt: skip
    image = np.full((ROWS, COLUMNS), background, dtype=np.float32)
    return Canvas(image, x, y, rows, back_line, behind, ahead, lateral, volume, share)


def _line(rows: Field, places: Sequence[float], values: Sequence[float]) -> Field:
    """Straight pieces between points; NumPy's own interpolation may be compiled to fused, not exact, operations."""
    ordered = sorted(zip(places, values, strict=True))
    at = np.array([place for place, _ in ordered], dtype=np.float32)
    value = np.array([each for _, each in ordered], dtype=np.float32)
    piece = np.clip(np.searchsorted(at, rows) - 1, 0, len(at) - 2)
    length = np.maximum(at[piece + 1] - at[piece], np.float32(0.01))
    share = np.clip((rows - at[piece]) / length, np.float32(-3), np.float32(4))
    return value[piece] + (value[piece + 1] - value[piece]) * share


def _smooth_line(rows: Field, places: Sequence[float], values: Sequence[float], spacing: float) -> Field:
    line = _line(rows, places, values)
    for _ in range(int(30 / spacing)):
        padded = np.concatenate([line[:1], line, line[-1:]])
        line = line * np.float32(0.5) + (padded[:-2] + padded[2:]) * np.float32(0.25)
    return line


def _steepness(line: Field, spacing: float) -> Field:
    """What turns a horizontal distance from a slanted line into the nearest distance."""
    padded = np.concatenate([line[:1], line, line[-1:]])
    slope = (padded[2:] - padded[:-2]) * np.float32(0.5 / spacing)
    return 1 / np.sqrt(1 + slope * slope)


def rise(value: Field, low: float, high: float) -> Field:
    """Smoothly from 0 at `low` to 1 at `high`."""
    return smoothstep((value - low) * (1 / (high - low)))


def bump(value: Field, centre: float, half_width: float) -> Field:
    """1 at the centre, falling smoothly to 0 at the half width."""
    near = (value - centre) * (1 / half_width)
    height = np.maximum(1.0 - near * near, 0.0)
    return height * height


def cover(distance: Field) -> Field:
    """How much of a pixel lies inside an outline, over about one pixel's width."""
    return smoothstep(distance * 0.75 + 0.5)


def paint(view: Field, alpha: Field | float, value: Field | float) -> None:
    """Lay a tissue over part of the image, in place."""
    view += (value - view) * alpha


def level_bumps(canvas: Canvas, anatomy: Anatomy, half_width: float) -> Field:
    """Per row: 1 at the height of each disc, 0 half a vertebra away. Shape (ROWS,)."""
    out = np.zeros(ROWS, dtype=np.float32)
    for upper, lower in zip(anatomy.vertebrae[:SACRUM], anatomy.vertebrae[1 : SACRUM + 1], strict=True):
        # The gap between the arches lies behind and a little below the disc.
        out = np.maximum(out, bump(canvas.lines_y, (upper.y + lower.y) / 2 + 2.0, half_width))
    return out
