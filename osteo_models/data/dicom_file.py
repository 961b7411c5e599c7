"""Reading DICOM files within bounds of memory: the data set of a file, and the stored values of its frames."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from osteo_models.data.decoding import decode_stored_values, find_size
from osteo_models.data.reasons import RejectedInput

MAX_PIXELS: Final = 64_000_000  # of one frame, checked before decoding: a header of 1 kB can ask for gigabytes
MAX_FRAMES: Final = 4096
MAX_INFLATED_BYTES: Final = 300_000_000
MIN_INFLATED_BYTES: Final = 16_000_000  # a bomb is recognised by its ratio long before it reaches the maximum
MAX_INFLATED_RATIO: Final = 50
DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
MAX_FIRST_ELEMENT: Final = 0x0018  # SOP Instance UID, the last that a file without a prefix may begin with


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM: by its prefix (PS3.10 7.1), or, without one, by an element of group 2 or 8 at its start.

    In the latter, the representation or the length of the first value must be what the standard allows there.
    """
    if data[128:132] == b"DICM":
        return True
    group, element = struct.unpack("<HH", data[:4]) if len(data) >= 132 else (0, 0)
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    return group in (2, 8) and element <= MAX_FIRST_ELEMENT and (explicit or data[6:8] == b"\0\0")


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
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels, specific_tags=tags, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta and data[128:132] != b"DICM":
                implicit, little_endian = dataset.original_encoding
                plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
                dataset.file_meta.TransferSyntaxUID = plain if little_endian else ExplicitVRBigEndian
            return dataset
    except Exception:  # noqa: BLE001  damaged files make pydicom raise anything
        raise RejectedInput("damaged") from None


def iterate_frames(dataset: pydicom.Dataset, count: int, chosen: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """The stored values of frames, (rows, columns) each, one at a time.

    Args:
        dataset: Read with its pixels.
        count: Number of frames of the file.
        chosen: Numbers of the frames to decode.

    Raises:
        RejectedInput: There are no pixels, or they cannot be decoded.
    """
    if "PixelData" not in dataset:
        raise RejectedInput("no_pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_streams(dataset, count)
            for stored in decode_stored_values(dataset, chosen):
                if stored.shape != (dataset.Rows, dataset.Columns):
                    raise RejectedInput("damaged_pixels")
                yield stored
    except RejectedInput:
        raise
    except Exception:  # noqa: BLE001  damaged pixel data make decoders raise anything
        raise RejectedInput("cut_short" if _is_short(dataset) else "damaged_pixels") from None


def _is_short(dataset: pydicom.Dataset) -> bool:
    """Whether uncompressed pixel data are fewer than the header announces."""
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        bits = int(dataset.Rows) * int(dataset.Columns) * frames * int(dataset.BitsAllocated)
        return not dataset.file_meta.TransferSyntaxUID.is_encapsulated and len(dataset.PixelData) * 8 < bits
    except (AttributeError, TypeError, ValueError):
        return False


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
            raise RejectedInput("damaged_pixels")


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
