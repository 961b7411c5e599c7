"""Reading DICOM files within bounds of memory: the data set of a file, and the stored values of its frames."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from osteo_models.data.decoding import decode_stored_values, find_size

MAX_PIXELS: Final = 100_000_000  # of all frames of one file
MAX_INFLATED_BYTES: Final = 300_000_000
MIN_INFLATED_BYTES: Final = 16_000_000  # a bomb is recognised by its ratio long before it reaches the maximum
MAX_INFLATED_RATIO: Final = 50
DEFLATED: Final = b"1.2.840.10008.1.2.1.99"


class RejectedInput(Exception):
    """An input file cannot be used.

    Attributes:
        reason: A key of `intake.sources.REASONS`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def is_dicom(data: bytes) -> bool:
    """Whether a file starts as DICOM does (PS3.10 7.1)."""
    return data[128:132] == b"DICM"


def parse_dicom(data: bytes, *, pixels: bool = True, keywords: Sequence[str] | None = None) -> pydicom.Dataset:
    """The data set of a DICOM file.

    Args:
        data: The whole file.
        pixels: Whether to read the pixel data.
        keywords: Attributes to read; all by default.

    Raises:
        RejectedInput: It cannot be read, or inflates beyond bounds.
    """
    if DEFLATED in data[:4096]:
        _check_inflated(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are checked where they are used
            tags = None if keywords is None else list(keywords)
            return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels, specific_tags=tags)
    except Exception:  # noqa: BLE001  damaged files make pydicom raise anything
        raise RejectedInput("damaged") from None


def decode_frames(dataset: pydicom.Dataset, frames: int) -> npt.NDArray[Any]:
    """The stored values of all frames.

    Shapes:
        returns (frames, rows, columns).

    Raises:
        RejectedInput: There are no pixels, or they cannot be decoded.
    """
    if "PixelData" not in dataset:
        raise RejectedInput("no_pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_streams(dataset, frames)
            stored = decode_stored_values(dataset)
    except RejectedInput:
        raise
    except Exception:  # noqa: BLE001  damaged pixel data make decoders raise anything
        raise RejectedInput("damaged") from None
    stored = stored if stored.ndim == 3 else stored[None]
    if stored.ndim != 3 or len(stored) != frames:
        raise RejectedInput("damaged")
    return stored


def _check_streams(dataset: pydicom.Dataset, frames: int) -> None:
    """Check the size in every frame's own stream before anything is decoded."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    for stream in islice(generate_frames(dataset.PixelData, number_of_frames=frames), frames):
        rows, columns = find_size(stream)
        if rows * columns > MAX_PIXELS:
            raise RejectedInput("too_large")
        if (rows, columns) != (dataset.Rows, dataset.Columns):
            raise RejectedInput("damaged")


def _check_inflated(data: bytes) -> None:
    """Inflate a deflated data set within bounds first: pydicom inflates all of it, however much that is."""
    start = 144 + int.from_bytes(data[140:144], "little")  # after the group length of the file meta (PS3.10 7.1)
    limit = min(MAX_INFLATED_BYTES, max(MIN_INFLATED_BYTES, MAX_INFLATED_RATIO * len(data)))
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], limit + 1)
    except zlib.error:
        raise RejectedInput("damaged") from None
    if len(inflated) > limit:
        raise RejectedInput("too_large")
