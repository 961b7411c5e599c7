"""Pixel data of DICOM files, by decoders that outlive damaged streams.

Left alone, pydicom would try GDCM where it is installed, which ends its process on some streams.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

NATIVE: Final = ""  # what is not compressed takes no plugin
PLUGINS: Final = dict.fromkeys((JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless), "pillow") | {RLELossless: "pydicom"}
# What a module must have to be a plugin of pydicom's decoders, `is_available` beside it.
DECODER_DEPENDENCIES: Final = dict.fromkeys(
    (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless), ("imagecodecs",)
)
# Start of frame: of JPEG, but for those that are other tables (T.81 B.1.1.3), and of JPEG-LS (T.87 C.1.1).
FRAME_STARTS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
SPARE_BITS_KEPT: Final = frozenset((*JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes))  # by pydicom
END: Final = b"\xff\xd9"
MOST_PADDING: Final = 16
JPEG_2000: Final = b"\xff\x4f\xff\x51"  # SOC and SIZ (T.800 A.5.1)
FURTHEST: Final = 4096  # bytes that a JPEG 2000 stream's wrapper may take


def can_decode(syntax: str) -> bool:
    """Whether there is a decoder for this transfer syntax."""
    try:
        _find_decoder(UID(syntax))
    except (NotImplementedError, ValueError):
        return False
    return True


def decode_stored_values(dataset: pydicom.Dataset, chosen: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
    """The stored values of frames, one at a time; damaged data may raise anything."""
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder, plugin = _find_decoder(syntax)
    for values, _ in decoder.iter_array(dataset, indices=chosen, decoding_plugin=plugin):
        spare = 8 * values.itemsize - dataset.BitsStored
        if syntax in SPARE_BITS_KEPT and spare > 0:
            values = values << spare >> spare  # what lies above BitsStored may be an overlay with a name
        yield values


@lru_cache(maxsize=64)
def _find_decoder(syntax: UID) -> tuple[Decoder, str]:
    """A decoder and the only plugin that it may use.

    Raises:
        NotImplementedError: There is none.
        ValueError: It is no transfer syntax.
    """
    if syntax in DECODER_DEPENDENCIES:
        decoder = Decoder(syntax)  # one of our own, for pydicom's are shared
        decoder.add_plugin(__name__, (__name__, decode_frame.__name__))
        return decoder, __name__
    if syntax.is_encapsulated and syntax not in PLUGINS:
        raise NotImplementedError(syntax)
    return get_decoder(syntax), PLUGINS.get(syntax, NATIVE)


def is_available(uid: str) -> bool:
    """Whether `decode_frame` knows a transfer syntax; pydicom asks this of a plugin."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """A frame of JPEG-LS, by CharLS, or of lossless or 12-bit JPEG, by libjpeg-turbo.

    A stream that was cut short is no image: libjpeg-turbo would fill it up, and CharLS may never end.

    Raises:
        ValueError: It has no end, or another size than the header says.
    """
    import imagecodecs

    size = runner.rows, runner.columns
    if END not in stream[-MOST_PADDING:] or find_size(stream) != size:
        raise ValueError("a stream without an end, or of another size")
    is_ls = runner.transfer_syntax in JPEGLSTransferSyntaxes
    values = imagecodecs.jpegls_decode(stream) if is_ls else imagecodecs.jpeg8_decode(stream)
    if values.shape != size:
        raise ValueError("not in grey")
    runner.set_option("bits_allocated", 8 * values.itemsize)
    return values.tobytes()


def find_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream says of itself; (0, 0) where it tells none."""
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
