"""Sagittal slices from an axial CT series, as the paper's reformats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from osteo_models.data.dicom_file import MAX_PIXELS, RejectedInput
from osteo_models.data.intake.headers import Plane
from osteo_models.data.intake.slices import Slice

MIN_SLICES: Final = 20
MAX_GAP_DEVIATION: Final = 0.1  # largest deviation of a gap from the median gap
STEP_MM: Final = 3.0  # between sagittal slices
SLICES_EACH_SIDE: Final = 5
BONE_HU: Final = 250


def is_even(positions_mm: Sequence[float]) -> bool:
    """Whether slices at these positions make a volume: enough of them, none twice, evenly spaced."""
    gaps = np.diff(np.sort(np.asarray(positions_mm, np.float64)))
    if len(gaps) < MIN_SLICES - 1 or gaps.min() <= 0:
        return False
    middle = float(np.median(gaps))
    return bool(np.abs(gaps - middle).max() <= MAX_GAP_DEVIATION * middle)


def reformat_sagittal(slices: Sequence[Slice]) -> list[Slice]:
    """Sagittal slices around the column, every 3 mm, with square pixels.

    The column is found as the middle of what is dense as bone. Rows run to the feet, columns to the back.

    Args:
        slices: Axial CT slices of one series, in any order.

    Raises:
        RejectedInput: They make no even volume, or one too large.
    """
    heights = [axial.plane.position_mm[2] for axial in slices]
    if not is_even(heights) or len({axial.pixels.shape for axial in slices}) != 1:
        raise RejectedInput("short_series")
    if sum(axial.pixels.size for axial in slices) > MAX_PIXELS:
        raise RejectedInput("too_large")
    ordered = [slices[index] for index in np.argsort(heights)[::-1]]  # head first
    first = ordered[0]
    volume = np.stack([_orient(axial) for axial in ordered])
    row_mm, column_mm = first.plane.spacing_mm
    gap_mm = abs(first.plane.position_mm[2] - ordered[-1].plane.position_mm[2]) / (len(ordered) - 1)
    middle = _find_column(volume)
    step = max(1, round(STEP_MM / column_mm))
    low = _low_corner(first, volume.shape)
    sagittal: list[Slice] = []
    for number in range(-SLICES_EACH_SIDE, SLICES_EACH_SIDE + 1):
        column = middle + step * number
        if 0 <= column < volume.shape[2]:
            plane = Plane(
                (row_mm, row_mm),
                (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
                (low[0] + column * column_mm, low[1], first.plane.position_mm[2]),
            )
            pixels = _resample_rows(volume[:, :, column], gap_mm / row_mm)
            sagittal.append(Slice(pixels, plane, replace(first.acquisition, thickness_mm=step * column_mm)))
    return sagittal


def _orient(axial: Slice) -> npt.NDArray[np.int16]:
    """Pixels with columns running to the patient's left (x) and rows to the back (y)."""
    pixels = np.asarray(axial.pixels, np.int16)
    rows, columns = axial.plane.orientation[:3], axial.plane.orientation[3:]
    if abs(rows[0]) < abs(rows[1]):  # rows of the image run front to back: turn it
        pixels, rows, columns = pixels.T, columns, rows
    if rows[0] < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if columns[1] < 0 else pixels


def _low_corner(axial: Slice, shape: tuple[int, ...]) -> tuple[float, float]:
    """The smallest x and y of the pixels, which need not be those of the first pixel."""
    x, y, _ = axial.plane.position_mm
    across, down = axial.plane.orientation[:3], axial.plane.orientation[3:]
    row_mm, column_mm = axial.plane.spacing_mm
    height, width = axial.pixels.shape
    far_x = x + across[0] * column_mm * (width - 1) + down[0] * row_mm * (height - 1)
    far_y = y + across[1] * column_mm * (width - 1) + down[1] * row_mm * (height - 1)
    return min(x, far_x), min(y, far_y)


def _find_column(volume: npt.NDArray[np.int16]) -> int:
    dense = np.asarray((volume > BONE_HU).sum(axis=(0, 1)), np.int64)
    if not dense.any():
        return volume.shape[2] // 2
    return int(np.searchsorted(np.cumsum(dense), dense.sum() / 2))


def _resample_rows(image: npt.NDArray[np.int16], factor: float) -> npt.NDArray[np.int16]:
    """Linear interpolation between rows to `factor` times as many."""
    count = max(2, round((len(image) - 1) * factor) + 1)
    positions = np.linspace(0, len(image) - 1, count)
    below = np.minimum(positions.astype(np.int64), len(image) - 2)
    weight = (positions - below)[:, None]
    return np.rint(image[below] * (1 - weight) + image[below + 1] * weight).astype(np.int16)
