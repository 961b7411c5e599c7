"""What a finished trial leaves in its folder, beside its checkpoints.

`result.json` is written last and holds the checksums of what stands beside it, so a folder without it is unfinished
and a folder whose files do not match it is damaged; both are trained again, from the last checkpoint where one is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from osteo_models.core.errors import OsteoError
from osteo_models.core.files import hash_file, write_atomically
from osteo_models.core.terms import CONTROL, OSTEOPOROSIS, decide
from osteo_models.training.inference import Scores

RESULT, SCORES, WEIGHTS = "result.json", "scores.npy", "model.safetensors"
SMALLEST_PROBABILITY: Final = 1e-7  # Keras clips at the same place before it takes the logarithm
THRESHOLD: Final = 0.5


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
    content["sha256"] = {name: hash_file(folder / name) for name in (SCORES, WEIGHTS)}
    write_atomically(folder / RESULT, json.dumps(content).encode())


def read_result(folder: Path) -> FoldResult | None:
    """The result of a finished trial; None where it is unfinished or its files do not match their checksums.

    Raises:
        OsteoError: A file is there and cannot be read, which says nothing about the trial.
    """
    try:
        content = json.loads((folder / RESULT).read_bytes())
        if any(hash_file(folder / name) != digest for name, digest in content.pop("sha256").items()):
            return None
        return FoldResult(**content, scores=np.load(folder / SCORES), weights=folder / WEIGHTS)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        remedy = "check the permissions and the disk, then run the same command again"
        raise OsteoError(f"cannot be read ({error.strerror})", where=str(folder), remedy=remedy) from error


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave; losses are mean binary cross-entropies per score.

    Args:
        epoch: Counted from 1.
        train_loss: Over the batches as they were trained on, so before each step.
        test_loss: Over the test images, at the end of the epoch.
        test_balanced_accuracy: Mean share of correct decisions at 0.5 over the classes in the test set.
        seconds: Training and testing together.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_balanced_accuracy: float
    seconds: float


def judge_scores(scores: Scores, target: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Loss and balanced accuracy of the test set's scores, of pairs by the MRI output.

    Shapes: scores: (m,) or (m, 2); target: (m,).
    """
    score = (scores[:, 0] if scores.ndim == 2 else scores).astype(np.float64)
    score = score.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    loss = -np.log(np.where(target == OSTEOPOROSIS, score, 1 - score)).mean()
    right = decide(score, THRESHOLD) == (target == OSTEOPOROSIS)
    shares = [right[target == label].mean() for label in (CONTROL, OSTEOPOROSIS) if (target == label).any()]
    return float(loss), float(np.mean(shares))


def mean_loss(losses: Tensor, batches: tuple[Tensor, ...], epoch: int) -> float:
    """Mean over the images; batches differ in size."""
    values = losses.double().cpu().numpy()
    if not np.isfinite(values).all():
        first = int(np.argmax(~np.isfinite(values)))
        raise lost_loss(values[first], f"epoch {epoch}, batch {first + 1} of {len(values)}")
    return float(np.average(values, weights=[len(rows) for rows in batches]))


def lost_loss(loss: float, where: str) -> OsteoError:
    """The error for a loss that is no finite number."""
    remedy = "lower `learning_rate`, or set `precision` to float32"
    return OsteoError(f"the loss is {loss}", where=where, allowed="finite numbers", remedy=remedy)
