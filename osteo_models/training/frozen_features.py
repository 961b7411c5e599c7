"""What a frozen backbone makes of the images: computed once, in chunks, and kept under the name of what decides it.

A chunk is written when it is done, the whole when all chunks are, each of them whole or not at all; so an extraction
that was interrupted goes on with the chunks that are missing. `<name>.json` is written last and vouches for
`<name>.npy`: without it, or with another checksum, the features are made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from osteo_models.core.errors import OsteoError, StaleDataError
from osteo_models.core.files import write_atomically
from osteo_models.models.pretrained import PretrainedNetwork
from osteo_models.training.inference import Images, arithmetic_of, as_batch, as_tensor, repeatable_kernels
from osteo_models.training.recipe import Arithmetic

VERSION: Final = 1  # of the features; see `training.identity`
CHUNK: Final = 64  # images: seconds of work, so that little is lost and all workers end together
BATCH: Final = 16

Chunk = tuple[int, int]  # first row, and the row after the last


@dataclass(frozen=True)
class Features:
    """The features of all images.

    Shapes:
        values: (N, F), row i of image i.

    Attributes:
        seconds: That the extraction took, summed over the workers.
    """

    values: npt.NDArray[np.float32]
    seconds: float


def split_rows(count: int) -> list[Chunk]:
    """The chunks of so many images."""
    return [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def extract_rows(
    network: PretrainedNetwork, images: Images, *, arithmetic: Arithmetic, device: str
) -> npt.NDArray[np.float32]:
    """Features of images, by a network that lies on `device` in channels-last memory."""
    network.eval()
    with repeatable_kernels(), torch.inference_mode(), arithmetic_of(arithmetic, torch.device(device)):
        batches = as_tensor(images).to(device).split(BATCH)
        return torch.cat([network.features(as_batch(each)).float().cpu() for each in batches]).numpy()


def feature_files(name: str) -> tuple[str, str]:
    """The files of stored features: the values, then the facts that vouch for them."""
    return f"{name}.npy", f"{name}.json"


def read_features(folder: Path, name: str) -> Features | None:
    """Stored features; None where they are not finished, or damaged.

    Raises:
        OsteoError: A file is there and cannot be read, which says nothing about the features.
    """
    try:
        values, facts_file = feature_files(name)
        facts = json.loads((folder / facts_file).read_bytes())
        content = (folder / values).read_bytes()
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            return None
        return Features(np.load(io.BytesIO(content)), float(facts["seconds"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise _unreadable(folder / name, error) from error


def write_chunk(folder: Path, name: str, chunk: Chunk, values: npt.NDArray[np.float32], seconds: float) -> None:
    """Keep a chunk until all are there."""
    path = _chunk_file(folder, name, chunk)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, values=values, seconds=seconds)
    write_atomically(path, buffer.getvalue())


def list_missing(folder: Path, name: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that are still to be made."""
    return [chunk for chunk in chunks if _read_chunk(folder, name, chunk) is None]


def join_chunks(folder: Path, name: str, chunks: Sequence[Chunk]) -> Features:
    """Write the whole of all chunks, and remove them.

    Raises:
        StaleDataError: Chunks are gone or damaged since they were written.
    """
    parts = [part for chunk in chunks if (part := _read_chunk(folder, name, chunk)) is not None]
    if len(parts) < len(chunks):
        found = f"{len(chunks) - len(parts)} of {len(chunks)} chunks are gone"
        raise StaleDataError(found, where=str(folder / name), remedy="run the same command again")
    features = Features(np.concatenate([part.values for part in parts]), sum(part.seconds for part in parts))
    buffer = io.BytesIO()
    np.save(buffer, features.values)
    content = buffer.getvalue()
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "seconds": features.seconds}
    values, facts_file = feature_files(name)
    write_atomically(folder / values, content)
    write_atomically(folder / facts_file, json.dumps(facts).encode())
    shutil.rmtree(folder / name, ignore_errors=True)
    for half in folder.glob(f".{name}.*"):  # left by a process that was killed while it wrote the whole
        half.unlink(missing_ok=True)
    return features


def _read_chunk(folder: Path, name: str, chunk: Chunk) -> Features | None:
    try:
        with np.load(io.BytesIO(_chunk_file(folder, name, chunk).read_bytes())) as content:
            values = content["values"]
            return Features(values, float(content["seconds"])) if len(values) == chunk[1] - chunk[0] else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    except OSError as error:
        raise _unreadable(folder / name, error) from error


def _unreadable(path: Path, error: OSError) -> OsteoError:
    remedy = "check the permissions and the disk, then run the same command again"
    return OsteoError(f"stored features cannot be read ({error.strerror})", where=str(path), remedy=remedy)


def _chunk_file(folder: Path, name: str, chunk: Chunk) -> Path:
    return folder / name / f"{chunk[0]}-{chunk[1]}.npz"
