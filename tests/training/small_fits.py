"""Small made-up folds, and a network small enough to train in a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from osteo_models.models import build
from osteo_models.training.fit import Fit
from osteo_models.training.fold import Arrays, FoldData
from osteo_models.training.jobs import Job
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import FoldResult, fold_folder, read_result
from osteo_models.training.trial import Trial, TrialSettings, make_config

torch.set_num_threads(1)  # as in a trial; on a busy machine two threads mostly wait for each other


def make_fold(kind: str = "rows", images: int = 48) -> FoldData:
    """Noise, brighter by 60 where the target is 1; the first half is MRI.

    `kind`: rows; pairs; towers: pairs to train on, rows to test.
    """
    rng = np.random.default_rng(0)
    target = np.arange(images) % 2
    pixels = rng.integers(0, 150, (images, 80, 60)) + 60 * target[:, None, None]
    half = images // 2
    pairs = np.stack([np.arange(half), np.arange(half, images)], axis=1)
    order = rng.permutation(images)
    train, test = {
        "rows": (order[10:], order[:10]),
        "towers": (pairs[5:], np.random.default_rng(1).permutation(pairs[:5].ravel())),
        "pairs": (pairs[5:], pairs[:5]),
    }[kind]
    return FoldData(pixels.astype(np.uint8), target, (np.arange(images) >= half).astype(np.int64), train, test)


def make_small_network(units: int = 8) -> nn.Module:
    """A traditional CNN of some hundred parameters."""
    return build("traditional_cnn", filters=[4, 4], pools=4, dense=[units])


def make_fit(network: nn.Module | None = None, *, kind: str = "rows", seed: int = 7, **recipe: Any) -> Fit:
    """A fit of the small network, or of a given one, on the made-up fold."""
    settings = {"batch_size": 16, "learning_rate": 1e-2, "precision": "float32"} | recipe
    return Fit(network or make_small_network(), Recipe(**settings), make_fold(kind), seed=seed)


def train_fold(settings: TrialSettings, job: Job, arrays: Arrays, fold: int = 0) -> FoldResult:
    """Train one fold of a job to its end in this process."""
    trial = Trial(settings, make_config(job, fold), arrays)
    while not trial.run_epoch().finished:
        pass
    result = read_result(fold_folder(settings.folder, job.key, fold))
    assert result is not None
    return result
