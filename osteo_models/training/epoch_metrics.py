"""Losses and accuracies that are reported after each epoch, at a fixed decision threshold of 0.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from osteo_models.core.errors import OsteoError
from osteo_models.core.terms import CONTROL, OSTEOPOROSIS, decide
from osteo_models.training.inference import Scores

SMALLEST_PROBABILITY: Final = 1e-7  # Keras clips to it before it takes the logarithm
THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class EpochResult:
    """Losses and accuracy after one epoch; losses are mean binary cross-entropies per score.

    Args:
        epoch: Counted from 1.
        train_loss: Over the batches, each before its step.
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

    Shapes: scores: (m,) or (m, K); target: (m,).
    """
    score = (scores[:, 0] if scores.ndim == 2 else scores).astype(np.float64)
    score = score.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    loss = -np.log(np.where(target == OSTEOPOROSIS, score, 1 - score)).mean()
    correct = decide(score, THRESHOLD) == (target == OSTEOPOROSIS)
    shares = [correct[target == label].mean() for label in (CONTROL, OSTEOPOROSIS) if (target == label).any()]
    return float(loss), float(np.mean(shares))


def mean_loss(losses: Tensor, batches: tuple[Tensor, ...], epoch: int) -> float:
    """Mean over the images; batches differ in size."""
    values = losses.double().cpu().numpy()
    if not np.isfinite(values).all():
        first = int(np.argmax(~np.isfinite(values)))
        raise non_finite_loss_error(values[first], f"epoch {epoch}, batch {first + 1} of {len(values)}")
    return float(np.average(values, weights=[len(rows) for rows in batches]))


def non_finite_loss_error(loss: float, where: str) -> OsteoError:
    """The error for a loss that is not a finite number."""
    remedy = "lower `learning_rate`, or set `precision` to float32"
    return OsteoError(f"the loss is {loss}", where=where, allowed="finite numbers", remedy=remedy)


def balance_patients(
    target: npt.NDArray[np.integer], score: npt.NDArray[np.floating], patient: npt.NDArray[np.integer]
) -> float:
    """Balanced accuracy of patients, each decided by the mean score of its images.

    Shapes: target, score, patient: (n,), one row per image; both classes occur.
    """
    _, first, index = np.unique(patient, return_index=True, return_inverse=True)
    mean = np.bincount(index, weights=score.astype(np.float64)) / np.bincount(index)
    truth = target[first]
    correct = decide(mean, THRESHOLD) == (truth == OSTEOPOROSIS)
    return float(np.mean([correct[truth == label].mean() for label in (CONTROL, OSTEOPOROSIS)]))
