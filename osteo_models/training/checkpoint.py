"""Weights and checkpoints as safetensors files: one file each, written atomically and checked when read.

A file's header has, next to safetensors' own entries, facts as JSON and a SHA-256 over tensors and facts, so that a
truncated or altered file is detected; the same tensors and facts give the same bytes. A checkpoint that cannot be used
is never fatal: the one before it is used, or the fit starts again, and the log has the reason.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.core.files import remove_unfinished, write_atomically

if TYPE_CHECKING:  # a model package carries this module, and not the training
    from osteo_models.training.fit import Fit

ENTRY: Final = "osteo"  # of safetensors' own metadata
KEPT: Final = 2  # checkpoints of a fit: the newest may be damaged
LENGTH_BYTES: Final = 8  # a safetensors file begins with the length of its header, little-endian

_log = logging.getLogger(__name__)
MOST_HEADER_BYTES: Final = 10_000_000
SPARE_BYTES: Final = 4_000_000  # for the header, in addition to the tensors
REMEDY: Final = "load none of it; register the model again from its own training"
# Formats that can run code when they are loaded, by how their files begin. Pickle's protocols 2 to 5 begin so.
DANGEROUS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "a pickle": (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    "a zip archive, such as PyTorch's": (b"PK\x03\x04", b"PK\x05\x06"),
    "a compressed file": (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    "a program": (b"\x7fELF", b"MZ"),
}


def save_checkpoint(folder: str | Path, fit: Fit) -> Path:
    """Write the state after the last finished epoch.

    The checkpoint before it is kept, in case the new one gets damaged; all others are removed, also those of later
    epochs, which can only stem from another fit.

    Returns:
        The file, `<folder>/epoch-<number>.safetensors`.

    Raises:
        OsteoError: the folder cannot be written to.
    """
    path = Path(folder) / f"epoch-{fit.epoch:04d}.safetensors"
    _write(path, *fit.state())
    checkpoints = _checkpoints(Path(folder))
    kept = [checkpoint for checkpoint in checkpoints if checkpoint.name <= path.name][:KEPT]
    for checkpoint in set(checkpoints) - set(kept):
        checkpoint.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: str | Path, fit: Fit) -> bool:
    """Go on from the newest usable checkpoint in a folder, which need not exist.

    Temporary files that killed processes left there are removed.

    Returns:
        Whether there was one; if not, the fit stands as it was.
    """
    remove_unfinished(Path(folder))
    for path in _checkpoints(Path(folder)):
        try:
            fit.load_state(*_read(path))
        except (WeightsError, StaleDataError) as error:
            _log.warning("checkpoint not used: %s: %s", path, error.found)
        else:
            _log.info("resumed after epoch %d from %s", fit.epoch, path)
            return True
    return False


def remove_checkpoints(folder: str | Path) -> None:
    """Delete the checkpoints in a folder, and temporary files of killed processes; other files stay."""
    remove_unfinished(Path(folder))
    for path in _checkpoints(Path(folder)):
        path.unlink(missing_ok=True)


def save_weights(path: str | Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a network's weights with JSON-able facts about them.

    Raises:
        OsteoError: the file cannot be written.
    """
    _write(Path(path), network.state_dict(), metadata)


def load_weights(path: str | Path, network: nn.Module) -> dict[str, Any]:
    """Put a file's weights into a network.

    Returns:
        The facts that were saved with them.

    Raises:
        WeightsError: the file is missing or damaged, or its weights are not this network's; the network is unchanged.
    """
    tensors, metadata = _read(Path(path))
    expected = {name: tuple(each.shape) for name, each in network.state_dict().items()}
    found = {name: tuple(each.shape) for name, each in tensors.items()}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise WeightsError(
            f"{len(differing)} tensors do not fit, the first is `{name}`: {found.get(name, 'missing')}",
            where=str(path),
            allowed=f"`{name}`: {expected.get(name, 'missing')}",
            remedy="build the network with the architecture and spec that the weights were saved from",
        )
    network.load_state_dict(tensors)
    return metadata


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("epoch-*.safetensors"), reverse=True)


def _write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    plain = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    # One entry: safetensors writes several in an order that changes from call to call.
    entry = {"facts": facts, "sha256": _digest(plain, facts)}
    write_atomically(path, save(plain, {ENTRY: json.dumps(entry, sort_keys=True)}))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file.

    Raises:
        WeightsError: the file is missing, unreadable or not as it was written.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
        entry = json.loads(json.loads(content[LENGTH_BYTES:end])["__metadata__"][ENTRY])
        facts: dict[str, Any] = entry["facts"]
        if entry["sha256"] != _digest(tensors, facts):
            raise WeightsError("the file is damaged: its checksum differs", where=str(path))
        return tensors, facts
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror})", where=str(path)) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the file is damaged: {error}", where=str(path)) from error


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        each = tensors[name]
        content.update(f"{name} {each.dtype} {tuple(each.shape)};".encode())
        content.update(each.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


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
