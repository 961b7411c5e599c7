"""One slice as a canvas: coordinates, the person's own noise fields, lines along the column, and paint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from osteo_models.phantom.anatomy import COLUMNS, ROWS, SACRUM, Anatomy
from osteo_models.phantom.random_fields import Draws, Field, smoothstep

Window = tuple[slice, slice]

ALL_ROWS: Final = slice(0, ROWS)
# The noise fields of a person: the size in mm of their cells along the rows' and the columns' axis.
_FIELDS: Final = {
    "bend_x": (34.0, 34.0),
    "bend_y": (34.0, 34.0),
    "ripple_x": (6.0, 6.0),
    "ripple_y": (6.0, 6.0),
    "organ": (44.0, 30.0),
    "bowel": (13.0, 11.0),
    "streak": (30.0, 4.6),
    "lobule": (8.0, 6.0),
    "patch": (6.5, 6.5),
    "strut": (3.4, 1.7),
}


@dataclass(frozen=True)
class Volume:
    """What the slices of a person share: noise fields at the right and at the left end, blended between them."""

    right: dict[str, Field]
    left: dict[str, Field]


@dataclass(frozen=True)
class Canvas:
    """The slice being painted.

    Shapes:
        image, x, y: (ROWS, COLUMNS); the coordinates in mm are bent by smooth noise, so that nothing is straight.
        rows_mm, back_line, front_line, lateral: (ROWS,); height, rear and front surface of the column, and the
            slice's distance from the column's middle.
        back_scale, front_scale: (ROWS, 1); what turns a horizontal into a nearest distance.
    """

    image: Field
    x: Field
    y: Field
    rows_mm: Field
    back_line: Field
    front_line: Field
    back_scale: Field
    front_scale: Field
    lateral: Field
    spacing: float
    volume: Volume
    share: float

    def field(self, name: str, window: Window) -> Field:
        """One of the person's noise fields at this slice; standard deviation about 0.6."""
        right = self.volume.right[name][window]
        return right + (self.volume.left[name][window] - right) * self.share

    def band(self, low: float, high: float) -> Window:
        """All rows, and the columns from `low` to `high` in mm."""
        first, last = (min(COLUMNS, max(0, int(edge / self.spacing))) for edge in (low, high))
        return ALL_ROWS, slice(first, last)

    def behind(self, window: Window) -> Field:
        """Distance in mm behind the column's rear surface; the window holds all rows."""
        return (self.x[window] - self.back_line[:, None]) * self.back_scale

    def ahead(self, window: Window) -> Field:
        """Distance in mm ahead of the column's front surface; the window holds all rows."""
        return (self.front_line[:, None] - self.x[window]) * self.front_scale


def make_volume(anatomy: Anatomy, seed: int, patient_id: str) -> Volume:
    """Draw the noise fields of a person."""
    draws = Draws(seed, "fields", patient_id)
    right, left = (
        {
            name: draws.smooth(ROWS, COLUMNS, down / anatomy.spacing, along / anatomy.spacing)
            for name, (down, along) in _FIELDS.items()
        }
        for _ in range(2)
    )
    return Volume(right, left)


def make_canvas(anatomy: Anatomy, volume: Volume, position: float, background: float) -> Canvas:
    """An empty slice at a position in mm to the patient's left."""
    share, spacing = min(1.0, max(0.0, 0.5 + position / 52.0)), anatomy.spacing
    rows = (np.arange(ROWS, dtype=np.float32) + np.float32(0.5)) * np.float32(spacing)
    columns = (np.arange(COLUMNS, dtype=np.float32) + np.float32(0.5)) * np.float32(spacing)
    vertebrae = anatomy.vertebrae
    corners = [(bone, part) for bone in vertebrae for part in (-0.8, 0.8)]
    back_line, front_line = (
        _smooth_line(
            rows,
            [bone.y + side * bone.depth * bone.sin + part * bone.height * bone.cos for bone, part in corners],
            [bone.x + side * bone.depth * bone.cos - part * bone.height * bone.sin for bone, part in corners],
            spacing,
        )
        for side in (1.0, -1.0)
    )
    canvas = Canvas(
        image=np.full((ROWS, COLUMNS), background, dtype=np.float32),
        x=np.broadcast_to(columns[None, :], (ROWS, COLUMNS)),
        y=np.broadcast_to(rows[:, None], (ROWS, COLUMNS)),
        rows_mm=rows,
        back_line=back_line,
        front_line=front_line,
        back_scale=_scale(back_line, spacing),
        front_scale=_scale(front_line, spacing),
        lateral=position - _line(rows, [bone.y for bone in vertebrae], [bone.lateral for bone in vertebrae]),
        spacing=spacing,
        volume=volume,
        share=share,
    )
    whole = (ALL_ROWS, slice(0, COLUMNS))
    x, y = (
        flat + canvas.field(f"bend_{axis}", whole) * 1.6 + canvas.field(f"ripple_{axis}", whole) * 0.55
        for axis, flat in (("x", canvas.x), ("y", canvas.y))
    )
    return replace(canvas, x=x, y=y)


def _line(rows: Field, positions: Sequence[float], values: Sequence[float]) -> Field:
    """Straight pieces between points; NumPy's own interpolation may be compiled to fused, not exact, operations."""
    at, value = np.array(sorted(zip(positions, values, strict=True)), dtype=np.float32).T
    piece = np.clip(np.searchsorted(at, rows) - 1, 0, len(at) - 2)
    length = np.maximum(at[piece + 1] - at[piece], np.float32(0.01))
    share = np.clip((rows - at[piece]) / length, np.float32(-3), np.float32(4))
    return value[piece] + (value[piece + 1] - value[piece]) * share


def _smooth_line(rows: Field, positions: Sequence[float], values: Sequence[float], spacing: float) -> Field:
    line = _line(rows, positions, values)
    for _ in range(int(25 / spacing)):
        padded = np.concatenate([line[:1], line, line[-1:]])
        line = line * np.float32(0.5) + (padded[:-2] + padded[2:]) * np.float32(0.25)
    return line


def _scale(line: Field, spacing: float) -> Field:
    padded = np.concatenate([line[:1], line, line[-1:]])
    slope = (padded[2:] - padded[:-2]) * np.float32(0.5 / spacing)
    return (1 / np.sqrt(1 + slope * slope))[:, None]


def running_mean(line: Field, half: int) -> Field:
    """Mean over 2 half + 1 values, ends repeated; in whole numbers, where the order of additions does not matter."""
    whole = np.floor(line * 1000 + 0.5).astype(np.int64)
    padded = np.concatenate([np.repeat(whole[:1], half + 1), whole, np.repeat(whole[-1:], half)])
    total = np.cumsum(padded)
    return ((total[2 * half + 1 :] - total[: -2 * half - 1]) // (2 * half + 1)).astype(np.float32) / np.float32(1000)


def rise(value: Field, low: float, high: float) -> Field:
    """Smoothly from 0 at `low` to 1 at `high`."""
    return smoothstep((value - low) * (1 / (high - low)))


def bump(value: Field, centre: float, half_width: float) -> Field:
    """1 at the centre, falling smoothly to 0 at the half width."""
    near = value - centre
    near *= 1 / half_width
    near *= near
    np.subtract(1, near, out=near)
    np.maximum(near, 0, out=near)
    near *= near
    return near


def cover(distance: Field) -> Field:
    """How much of a pixel lies inside an outline, over about one pixel's width."""
    return smoothstep(distance * 0.75 + 0.5)


def paint(view: Field, alpha: Field | float, value: Field | float) -> None:
    """Blend a tissue over part of the image, in place."""
    change = value - view
    change *= alpha
    view += change


def level_bumps(canvas: Canvas, anatomy: Anatomy, half_width: float) -> Field:
    """Per row: 1 at the height of each disc, 0 half a vertebra away. Shape (ROWS, 1)."""
    out = np.zeros(ROWS, dtype=np.float32)
    for upper, lower in zip(anatomy.vertebrae[:SACRUM], anatomy.vertebrae[1 : SACRUM + 1], strict=True):
        # The gap between the arches lies behind and a little below the disc.
        out = np.maximum(out, bump(canvas.rows_mm, (upper.y + lower.y) / 2 + 2.0, half_width))
    return out[:, None]
