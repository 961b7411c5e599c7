"""Where the pixels of an image are in the patient, and the same image with its rows to the feet, columns to the back.

Patient coordinates (PS3.3 C.7.6.2.1.1), in mm: x runs to the left, y to the back, z to the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.tag import Tag
from scipy.ndimage import affine_transform

from osteo_models.data.reasons import RejectedInput

SPACING_MM: Final = (0.05, 10.0)
MAX_POSITION_MM: Final = 10_000
UNIT_TOLERANCE: Final = 0.01
MIN_ALIGNMENT: Final = 0.82  # of the normal with an axis; below, some 35 degrees away, a slice is oblique
MAX_FIELD_MM: Final = 350.0  # from head to feet: in a taller image, the middle need not be the lumbar spine
MAX_ROTATION_DEGREES: Final = 8.0  # in the plane; above, an image is rotated upright, which interpolates

SHARED_GROUPS: Final = Tag(0x52009229)
FRAME_GROUPS: Final = Tag(0x52009230)

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """Position and orientation of one frame in the patient.

    Attributes:
        spacing_mm: Between rows, between columns.
        orientation: Directions of the rows (along which columns count) and of the columns.
        position_mm: Of the first pixel.
    """

    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position_mm: tuple[float, float, float]

    @cached_property
    def across(self) -> Vector:
        """Unit vector from column to column."""
        return np.array(self.orientation[:3]) / math.hypot(*self.orientation[:3])

    @cached_property
    def down(self) -> Vector:
        """Unit vector from row to row."""
        return np.array(self.orientation[3:]) / math.hypot(*self.orientation[3:])

    @cached_property
    def normal(self) -> Vector:
        """Unit vector at right angles to both."""
        (a, b, c), (d, e, f) = self.across.tolist(), self.down.tolist()
        return np.array([b * f - c * e, c * d - a * f, a * e - b * d])

    @property
    def name(self) -> str:
        """`sagittal`, `axial`, `coronal` or `oblique`."""
        normal = np.abs(self.normal)
        largest = int(normal.argmax())
        return ("sagittal", "coronal", "axial")[largest] if normal[largest] > MIN_ALIGNMENT else "oblique"


def measure_height(plane: Plane, shape: tuple[int, ...]) -> float:
    """Length in mm of the side of an image that runs nearest from head to feet."""
    axis = 0 if abs(plane.down[2]) >= abs(plane.across[2]) else 1
    return shape[axis] * plane.spacing_mm[axis]


def group_value(dataset: pydicom.Dataset, frame: int, group: str, name: str) -> Any:
    """An attribute of one frame: from the frame's own or the shared functional group, else from the top level.

    Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
    """
    if SHARED_GROUPS not in dataset and FRAME_GROUPS not in dataset:
        return dataset.get(name)  # nearly all files
    own, shared = (dataset[tag].value if tag in dataset else None for tag in (FRAME_GROUPS, SHARED_GROUPS))
    for item in (own[frame] if own and frame < len(own) else None, shared[0] if shared else None):
        macro = item.get(group) if item is not None else None
        if macro and macro[0].get(name) is not None:
            return macro[0].get(name)
    return dataset.get(name)


def read_plane(dataset: pydicom.Dataset, frame: int) -> Plane:
    """The plane of a frame.

    Raises:
        RejectedInput: The header does not have it, or its values are impossible.
    """
    spacing = as_numbers(group_value(dataset, frame, "PixelMeasuresSequence", "PixelSpacing"))
    orientation = as_numbers(group_value(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient"))
    position = as_numbers(group_value(dataset, frame, "PlanePositionSequence", "ImagePositionPatient"))
    if len(spacing) != 2 or len(orientation) != 6 or len(position) != 3:
        raise RejectedInput("no_geometry")
    if any(abs(value) > MAX_POSITION_MM for value in position):
        raise RejectedInput("implausible")
    if not all(SPACING_MM[0] <= value <= SPACING_MM[1] for value in spacing):
        raise RejectedInput("implausible")
    across, down = orientation[:3], orientation[3:]
    product = sum(a * b for a, b in zip(across, down, strict=True))
    if any(abs(math.hypot(*axis) - 1) > UNIT_TOLERANCE for axis in (across, down)) or abs(product) > UNIT_TOLERANCE:
        raise RejectedInput("implausible")  # PS3.3 C.7.6.2.1.1: unit vectors at a right angle
    return Plane((spacing[0], spacing[1]), tuple(orientation), (position[0], position[1], position[2]))


def as_list(value: Any) -> list[Any]:
    """The values of an attribute, of which there may be none, one or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def as_numbers(value: Any) -> list[float]:
    """The values of an attribute as finite numbers."""
    numbers = [float(number) for number in as_list(value)]
    if not all(math.isfinite(number) for number in numbers):
        raise RejectedInput("implausible")
    return numbers


def make_upright(pixels: npt.NDArray[Any], plane: Plane) -> tuple[npt.NDArray[Any], Plane]:
    """A sagittal image with rows to the feet and columns to the back, and its plane.

    Turns by 90 degrees and mirrorings move pixels only; a rotation that is left and exceeds `MAX_ROTATION_DEGREES` is
    interpolated. The plane itself is not tilted: a single slice has no pixels outside it.
    """
    if abs(plane.down[2]) < abs(plane.across[2]):
        pixels = pixels.T
        turned = (*plane.orientation[3:], *plane.orientation[:3])
        plane = replace(plane, spacing_mm=plane.spacing_mm[::-1], orientation=turned)
    if plane.down[2] > 0:
        pixels, plane = pixels[::-1], _flip(plane, pixels.shape, axis=0)
    if plane.across[1] < 0:
        pixels, plane = pixels[:, ::-1], _flip(plane, pixels.shape, axis=1)
    normal = plane.normal
    feet = np.array([0.0, 0.0, -1.0]) + normal[2] * normal
    feet /= np.linalg.norm(feet)
    angle = math.degrees(math.acos(min(1.0, float(plane.down @ feet))))
    return (
        (pixels, plane)
        if angle <= MAX_ROTATION_DEGREES
        else _rotate(pixels, plane, feet, np.asarray(np.cross(feet, normal)))
    )


def _flip(plane: Plane, shape: tuple[int, ...], axis: int) -> Plane:
    direction = (plane.down, plane.across)[axis] * plane.spacing_mm[axis] * (shape[axis] - 1)
    x, y, z = (float(value) for value in np.array(plane.position_mm) + direction)
    signs = (1, -1) if axis == 0 else (-1, 1)
    across, down = (
        tuple(sign * value + 0.0 for value in part)
        for sign, part in zip(signs, (plane.orientation[:3], plane.orientation[3:]), strict=True)
    )
    return replace(plane, orientation=across + down, position_mm=(x, y, z))


def _rotate(pixels: npt.NDArray[Any], plane: Plane, down: Vector, across: Vector) -> tuple[npt.NDArray[Any], Plane]:
    """The image resampled about its middle in other directions of the same plane."""
    spacing, middle = np.array(plane.spacing_mm), (np.array(pixels.shape) - 1) / 2
    old, new = np.stack([plane.down, plane.across]), np.stack([down, across])
    matrix = (old @ new.T) * spacing / spacing[:, None]
    offset: Any = middle - matrix @ middle
    rotated = affine_transform(pixels.astype(np.float64), matrix, offset, order=1, cval=float(pixels.min()))
    centre = np.array(plane.position_mm) + (middle * spacing) @ old
    x, y, z = (float(value) for value in centre - (middle * spacing) @ new)
    orientation = tuple(float(value) for value in (*across, *down))
    return np.rint(rotated).astype(pixels.dtype), Plane(plane.spacing_mm, orientation, (x, y, z))
