"""A look at a weights file before it is read: its format and its size, from its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from osteo_models.errors import WeightsError

LENGTH_BYTES: Final = 8  # of the count that a safetensors file begins with
MOST_HEADER_BYTES: Final = 10_000_000
SPARE_BYTES: Final = 4_000_000  # for the header, beside the tensors
REMEDY: Final = "load none of it; register the model anew from its own training"
# Formats that can run code when they are loaded, by how their files begin. Pickle's protocols 2 to 5 begin so.
DANGEROUS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "a pickle": (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    "a zip archive, such as PyTorch's": (b"PK\x03\x04", b"PK\x05\x06"),
    "a compressed file": (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    "a program": (b"\x7fELF", b"MZ"),
}


def check_weights(path: Path, tensors: int) -> None:
    """See that a file can be the safetensors file of a network, before it is read whole.

    Args:
        path: The file.
        tensors: Bytes of the network's tensors.

    Raises:
        WeightsError: It is another format, its header is impossible, or it is larger than the network.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES)
            header = int.from_bytes(start, "little")
            opening = file.read(1)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror})", where=str(path)) from None
    allowed = "a safetensors file as it was registered"
    # A safetensors file begins with the length of its header, which may look like a pickle's mark, then zeros.
    kind = next((kind for kind, marks in DANGEROUS.items() if any(start[3:]) and start.startswith(marks)), None)
    if kind:
        raise WeightsError(f"{kind}, no safetensors file", where=str(path), allowed=allowed, remedy=REMEDY)
    if size > tensors + SPARE_BYTES:
        found = f"{size:,} bytes for a network of {tensors:,}"
        raise WeightsError(found, where=str(path), allowed=allowed, remedy=REMEDY)
    if header > min(size - LENGTH_BYTES, MOST_HEADER_BYTES) or opening != b"{":
        found = f"the file is damaged: a header of {header:,} bytes in a file of {size:,}"
        raise WeightsError(found, where=str(path), allowed=allowed, remedy="take it from a backup")
