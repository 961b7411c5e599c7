"""A search for letters burned into pixels, by their shape: a row of small, bright, sharply bounded spots.

It finds printed captions, not handwriting, and no letters darker than what is around them; it reads nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label

HEIGHT_PIXELS: Final = (5, 60)  # of a letter
MIN_LETTERS: Final = 5  # in a row
MAX_BRIGHT: Final = 0.2  # of the pixels: above, the image is not dark enough for letters to be spots
MIN_STEP: Final = 0.5  # of the range of the image, from a letter to what is around it
MAX_GAP: Final = 2.5  # letter heights between neighbours
SAME_LINE: Final = 0.35  # of a letter height, between the upper or lower ends of letters


def has_letters(pixels: npt.NDArray[Any]) -> bool:
    """Whether an image seems to have a line of text."""
    low, high = float(np.median(pixels[::4, ::4])), float(pixels.max())
    bright = pixels > low + MIN_STEP * (high - low)
    if bright.mean() > MAX_BRIGHT:
        return False
    values = pixels.astype(np.float32)
    spots = _find_spots(bright, values, (high - low) * MIN_STEP)
    return any(_count_line(spots, spot) >= MIN_LETTERS for spot in spots)


def _find_spots(
    bright: npt.NDArray[np.bool_], values: npt.NDArray[np.float32], step: float
) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right of the connected bright spots of a letter's size, with sharp edges."""
    labels = np.zeros(bright.shape, np.int32)
    label(bright, np.ones((3, 3), int), output=labels)
    spots: list[tuple[int, int, int, int]] = []
    for number, (rows, columns) in enumerate(find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (HEIGHT_PIXELS[0] <= height <= HEIGHT_PIXELS[1] and width <= 1.5 * height):
            continue
        around = (slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1))
        inside = labels[around] == number
        steps = np.abs(np.diff(values[around], axis=1))[inside[:, 1:] != inside[:, :-1]]
        if len(steps) and np.median(steps) >= step:
            spots.append((rows.start, rows.stop, columns.start, columns.stop))
    return spots


def _count_line(spots: list[tuple[int, int, int, int]], first: tuple[int, int, int, int]) -> int:
    """Number of letters in the line that begins with a spot."""
    top, bottom, _, right = first
    height, count = bottom - top, 1
    for spot in sorted(spots, key=lambda spot: spot[2]):
        aligned = min(abs(spot[0] - top), abs(spot[1] - bottom)) <= max(1.0, SAME_LINE * height)
        similar = 0.4 * height <= spot[1] - spot[0] <= 1.6 * height
        if aligned and similar and right <= spot[2] <= right + MAX_GAP * height:
            count, right = count + 1, spot[3]
    return count
