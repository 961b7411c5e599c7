"""The size that a compressed stream says of itself: decoders allocate by it, whatever the DICOM header says."""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final

import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from osteo_models.data.intake.headers import MAX_PIXELS
from osteo_models.data.intake.refusal import Refusal

# Start of frame: of JPEG, but for those that are other tables (T.81 B.1.1.3), and of JPEG-LS (T.87 C.1.1).
FRAME_STARTS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
JPEG_2000: Final = b"\xff\x4f\xff\x51"  # SOC and SIZ (T.800 A.5.1)
FURTHEST: Final = 4096  # bytes that a JPEG 2000 stream's wrapper may take


def check_streams(dataset: pydicom.Dataset, frames: int) -> None:
    """Check every frame's own size before anything is decoded.

    Raises:
        Refusal: A stream is of another size than the header says, or of none.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    for stream in islice(generate_frames(dataset.PixelData, number_of_frames=frames), frames):
        rows, columns = find_size(stream)
        if rows * columns > MAX_PIXELS:
            raise Refusal("too_large")
        if (rows, columns) != (dataset.Rows, dataset.Columns):
            raise Refusal("damaged")


def find_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; (0, 0) where it tells none."""
    if stream[:2] == b"\xff\xd8":
        return _find_in_jpeg(stream)
    start = stream.find(JPEG_2000, 0, FURTHEST)
    size = stream[start + 8 : start + 24] if start >= 0 else b""
    if len(size) < 16:
        return 0, 0
    right, bottom, left, top = struct.unpack(">4I", size)
    return bottom - top, right - left


def _find_in_jpeg(stream: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in FRAME_STARTS:
            rows, columns = struct.unpack(">HH", stream[at + 5 : at + 9])
            return rows, columns
        # Fill bytes stand alone (T.81 B.1.1.2); other segments before the frame have a length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return 0, 0
