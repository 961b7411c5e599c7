"""What a finished trial leaves in its folder, beside its checkpoints.

`result.json` is written last and holds the checksums of what stands beside it, so a folder without it is unfinished
and a folder whose files do not match it is damaged; both are trained again, from the last checkpoint where one is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RESULT, SCORES, WEIGHTS = "result.json", "scores.npy", "model.safetensors"


@dataclass(frozen=True)
class FoldResult:
    """A finished trial.

    Shapes:
        scores: (m,) in the order of the fold's test rows, or (m, 2) for pairs.

    Attributes:
        history: One mapping per epoch: epoch, train_loss, test_loss, test_balanced_accuracy, seconds.
        parameters: All and trainable parameters of the network.
    """

    fold: int
    scores: npt.NDArray[np.float32]
    history: Sequence[dict[str, float]]
    precision: str
    device: str
    parameters: int
    trainable_parameters: int
    weights: Path


def fold_folder(jobs: Path, key: str, fold: int) -> Path:
    """Where a trial keeps its checkpoints and its result."""
    return jobs / key / fold_name(fold)


def fold_name(fold: int) -> str:
    """The name of that folder."""
    return f"fold-{fold}"


def write_result(folder: Path, result: FoldResult) -> None:
    """Write the scores, then the result that vouches for them and for the weights."""
    buffer = io.BytesIO()
    np.save(buffer, result.scores)
    write_atomically(folder / SCORES, buffer.getvalue())
    content: dict[str, Any] = {
        name: value for name, value in asdict(result).items() if name not in ("scores", "weights")
    }
    content["sha256"] = {name: _sha256(folder / name) for name in (SCORES, WEIGHTS)}
    write_atomically(folder / RESULT, json.dumps(content).encode())


def read_result(folder: Path) -> FoldResult | None:
    """The result of a finished trial; None where it is unfinished or its files do not match their checksums."""
    try:
        content = json.loads((folder / RESULT).read_bytes())
        if any(_sha256(folder / name) != digest for name, digest in content.pop("sha256").items()):
            return None
        return FoldResult(**content, scores=np.load(folder / SCORES), weights=folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there, even through a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
