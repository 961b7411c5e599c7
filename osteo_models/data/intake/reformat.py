"""Upright sagittal slices from an axial CT series, sampled at patient coordinates.

Slices need not be parallel to an axis, evenly spaced, or straight above each other (gantry tilt): every output pixel is
interpolated between the two slices around it, each sampled where the pixel projects on it. Slices are taken one after
the other, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from osteo_models.data.geometry import Plane, Vector
from osteo_models.data.intake.headers import Acquisition
from osteo_models.data.intake.slices import Slice
from osteo_models.data.reasons import RejectedInput

MIN_SLICES: Final = 20
MIN_HEIGHT_MM: Final = 50.0
SAME_POSITION_MM: Final = 0.01
MAX_GAP: Final = 2.2  # of the median gap: one slice may be missing
MAX_GAP_MM: Final = 10.0
DIRECTION_TOLERANCE: Final = 0.002  # between direction cosines of a series
STEP_MM: Final = 3.0  # between sagittal slices
SLICES_EACH_SIDE: Final = 5
BONE_HU: Final = 250
MIN_PIXEL_MM: Final = 0.5
GRID_MM: Final = 2.0  # on which coverage is examined
WIDTHS_MM: Final = (np.inf, 200.0, 150.0, 120.0, 100.0)
WANTED_MM: Final = (200.0, 150.0)  # rows and columns beyond which more coverage is not better
FEET: Final = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def group_directions(planes: Sequence[Plane]) -> list[int]:
    """A number for each plane, the same for those whose directions are equal within the tolerance."""
    leaders: list[npt.NDArray[np.float64]] = []
    groups: list[int] = []
    for plane in planes:
        direction = np.array(plane.orientation)
        apart = [float(np.abs(direction - other).max()) for other in leaders]
        near = [number for number, distance in enumerate(apart) if distance <= DIRECTION_TOLERANCE]
        if not near:
            leaders.append(direction)
        groups.append(near[0] if near else len(leaders) - 1)
    return groups


def find_heights(planes: Sequence[Plane]) -> Vector:
    """Position of each plane along their common normal, which points to the head."""
    return np.array([plane.position_mm for plane in planes]) @ _find_normal(planes)


def _find_normal(planes: Sequence[Plane]) -> Vector:
    normal = np.mean([plane.normal for plane in planes], axis=0)
    return normal / np.linalg.norm(normal) * (1 if normal[2] > 0 else -1)


def find_gap_fault(heights: Sequence[float] | Vector) -> str:
    """The reason why slices at these heights make no volume; empty where they do."""
    ordered = np.sort(np.asarray(heights, np.float64))
    gaps = np.diff(ordered)
    gaps = gaps[gaps > SAME_POSITION_MM]
    if len(gaps) < MIN_SLICES - 1 or ordered[-1] - ordered[0] < MIN_HEIGHT_MM:
        return "few_slices"
    return "missing_slices" if gaps.max() > min(MAX_GAP * np.median(gaps), MAX_GAP_MM) else ""


@dataclass(frozen=True)
class Stack:
    """The geometry of an axial series.

    Attributes:
        planes: One for each slice, from the feet to the head.
        shape: Rows and columns of each slice.
    """

    planes: tuple[Plane, ...]
    shape: tuple[int, int]

    def measure(self, points: Vector) -> tuple[Vector, npt.NDArray[np.bool_]]:
        """Heights (N,) of points (N, 3), and whether each is inside the volume."""
        heights = find_heights(self.planes)
        at = points @ _find_normal(self.planes)
        origins = np.array([plane.position_mm for plane in self.planes])
        origin = np.stack([np.interp(at, heights, origins[:, axis]) for axis in range(3)], axis=1)
        plane = self.planes[len(self.planes) // 2]
        inside = (at >= heights[0] - 1e-6) & (at <= heights[-1] + 1e-6)
        for axis, (direction, length) in enumerate(zip((plane.down, plane.across), self.shape, strict=True)):
            index = ((points - origin) * direction).sum(axis=1) / plane.spacing_mm[axis]
            inside &= (index > -0.5) & (index < length - 0.5)
        return at, inside


def find_column(slices: Iterable[Slice]) -> tuple[float, float]:
    """Patient coordinates x and y of the spine: the middle of what is dense as bone, else of the image."""
    places: list[Vector] = []
    middles: list[Vector] = []
    for axial in slices:
        plane, shape = axial.plane, np.array(axial.pixels.shape)
        axes = np.stack([plane.down * plane.spacing_mm[0], plane.across * plane.spacing_mm[1]])
        places.append(np.argwhere(axial.pixels > BONE_HU) @ axes[:, :2] + plane.position_mm[:2])
        middles.append((shape - 1) / 2 @ axes[:, :2] + plane.position_mm[:2])
    dense = np.concatenate(places)
    x, y = np.median(dense if len(dense) else middles, axis=0)
    return float(x), float(y)


def reformat_sagittal(stack: Stack, column: tuple[float, float], slices: Iterable[Slice]) -> list[Slice]:
    """Sagittal slices around the column, every 3 mm, with square pixels, rows to the feet and columns to the back.

    Args:
        stack: The geometry.
        column: Patient coordinates x and y of the spine.
        slices: The slices in the order of the stack; damaged ones may be left out.

    Raises:
        RejectedInput: Too little is covered.
    """
    pixel_mm = max(min(stack.planes[0].spacing_mm), MIN_PIXEL_MM)
    y, z = _choose_window(stack, column, pixel_mm)
    x, step_mm = _choose_positions(stack.planes[0], column[0])
    x = x[[bool(stack.measure(np.array([[each, column[1], z.mean()]]))[1][0]) for each in x]]
    grid = np.stack(np.meshgrid(x, z, y, indexing="ij"), axis=-1, dtype=np.float64)[..., [0, 2, 1]].reshape(-1, 3)
    normal = _find_normal(stack.planes)
    heights = grid @ normal
    order = np.argsort(heights, kind="stable")
    values, acquisition = _sample(grid[order], heights[order], normal, slices)
    volume = np.empty(len(grid), np.int16)
    volume[order] = np.rint(values).astype(np.int16)
    acquisition = replace(acquisition, thickness_mm=step_mm)
    return [
        Slice(pixels, Plane((pixel_mm, pixel_mm), FEET, (float(at), float(y[0]), float(z[0]))), acquisition)
        for at, pixels in zip(x, volume.reshape(len(x), len(z), len(y)), strict=True)
    ]


def _choose_positions(plane: Plane, middle: float) -> tuple[Vector, float]:
    """Coordinates x of the sagittal slices, on pixels of the axial ones, and their distance of some 3 mm."""
    pixel_mm = plane.spacing_mm[1] if abs(plane.across[0]) > abs(plane.down[0]) else plane.spacing_mm[0]
    first = plane.position_mm[0] + pixel_mm * round((middle - plane.position_mm[0]) / pixel_mm)
    step_mm = pixel_mm * max(1, round(STEP_MM / pixel_mm))
    steps = np.arange(-SLICES_EACH_SIDE, SLICES_EACH_SIDE + 1, dtype=np.float64)
    return np.asarray(first + step_mm * steps, np.float64), step_mm


def _sample(points: Vector, heights: Vector, normal: Vector, slices: Iterable[Slice]) -> tuple[Vector, Acquisition]:
    """Values at points in the order of their heights, interpolated between consecutive slices."""
    values = np.full(len(points), np.nan)
    below: Slice | None = None
    low = 0.0
    for above in slices:
        high = float(np.array(above.plane.position_mm) @ normal)
        if below is not None:
            first, last = np.searchsorted(heights, [low - 1e-6, high + 1e-6])
            part = slice(first, last)
            weight = np.clip((heights[part] - low) / (high - low), 0.0, 1.0)
            values[part] = (1 - weight) * _project(below, points[part]) + weight * _project(above, points[part])
        below, low = above, high
    if below is None or np.isnan(values).any():
        raise RejectedInput("few_slices")
    return values, below.acquisition


def _project(axial: Slice, points: Vector) -> Vector:
    """Values of a slice where points project on it."""
    plane = axial.plane
    offsets = points - np.array(plane.position_mm)
    places = np.stack([offsets @ plane.down / plane.spacing_mm[0], offsets @ plane.across / plane.spacing_mm[1]])
    return map_coordinates(axial.pixels, places, output=np.float64, order=1, mode="nearest")


def _choose_window(stack: Stack, column: tuple[float, float], pixel_mm: float) -> tuple[Vector, Vector]:
    """Coordinates y of the columns and z of the rows of a rectangle that is covered completely, at the column's x."""
    corners = _find_corners(stack)
    low, high = corners.min(axis=0), corners.max(axis=0)
    y, z = (np.linspace(low[axis], high[axis], int((high[axis] - low[axis]) / GRID_MM) + 2) for axis in (1, 2))
    points = np.stack(np.broadcast_arrays(column[0], y[None, :], z[:, None]), axis=-1).reshape(-1, 3)
    covered = stack.measure(points)[1].reshape(len(z), len(y))
    best, chosen = 0.0, None
    for width in WIDTHS_MM:
        columns = covered.any(axis=0) & (np.abs(y - column[1]) <= width / 2)
        rows = np.flatnonzero(covered[:, columns].all(axis=1)) if columns.any() else np.array([], int)
        if len(rows) < 2:
            continue
        inside = y[columns]
        height_mm, width_mm = float(np.ptp(z[rows])), float(np.ptp(inside))
        area = min(height_mm, WANTED_MM[0]) * min(width_mm, WANTED_MM[1])
        if area > best:
            best, chosen = area, (inside[0], inside[-1], z[rows[0]], z[rows[-1]])
    if chosen is None or chosen[3] - chosen[2] < MIN_HEIGHT_MM - GRID_MM:
        raise RejectedInput("few_slices")
    front, back, feet, head = chosen
    return np.arange(front, back + 1e-6, pixel_mm), np.arange(head, feet - 1e-6, -pixel_mm)


def _find_corners(stack: Stack) -> Vector:
    """The corners of the first and of the last slice."""
    corners: list[Vector] = []
    for plane in (stack.planes[0], stack.planes[-1]):
        for row in (0, stack.shape[0] - 1):
            for column in (0, stack.shape[1] - 1):
                step = plane.down * plane.spacing_mm[0] * row + plane.across * plane.spacing_mm[1] * column
                corners.append(np.array(plane.position_mm) + step)
    return np.stack(corners)
