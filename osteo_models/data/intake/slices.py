"""One slice with what modelling uses of it, decoded from a DICOM file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom

from osteo_models.data.geometry import Plane
from osteo_models.data.intake.headers import Acquisition, Header
from osteo_models.data.pixel_values import Pixels, read_frames


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice.

    Shapes: pixels: (H, W); int16 for CT, uint16 for MR.
    Units: pixels: Hounsfield units for CT, arbitrary for MR.
    """

    pixels: Pixels
    plane: Plane
    acquisition: Acquisition

    @property
    def digest(self) -> str:
        """Hash of the pixels."""
        content = hashlib.sha256(repr((self.acquisition.modality, self.pixels.shape)).encode())
        content.update(np.ascontiguousarray(self.pixels).data)
        return content.hexdigest()


def decode_slices(dataset: pydicom.Dataset, header: Header, chosen: Sequence[int] | None = None) -> Iterator[Slice]:
    """Frames of a data set that was read with its pixels, all by default.

    Raises:
        RejectedInput: The pixels cannot be decoded, have no scale, or are the same everywhere.
    """
    count = len(header.planes)
    numbers = range(count) if chosen is None else chosen
    frames = read_frames(dataset, header.acquisition.modality, count, numbers)
    for number, values in zip(numbers, frames, strict=True):
        yield Slice(values, header.planes[number], header.acquisition)
