"""One trial: a fold trained epoch by epoch, with a checkpoint after each and a result at the end. Knows no scheduler.

Imported by every worker process, so it imports little.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from osteo_models.core.errors import OsteoError
from osteo_models.models import build, count_parameters
from osteo_models.models.head import Head
from osteo_models.training.checkpoint import load_checkpoint, remove_checkpoints, save_checkpoint, save_weights
from osteo_models.training.fit import Fit
from osteo_models.training.fold import FoldData
from osteo_models.training.jobs import FoldRows, Job
from osteo_models.training.result_store import Drawer, Shelf
from osteo_models.training.results import WEIGHTS, FoldResult, fold_folder, fold_name, read_result, write_result


@dataclass(frozen=True)
class Arrays:
    """What every trial reads: images uint8 (N, 80, 60) or features float32 (N, F), target (N,), is_ct (N,)."""

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    is_ct: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What the trials of a job share.

    Attributes:
        rows: The rows of each fold.
        folder: Of all jobs' checkpoints and results; every worker must reach it where there is no shelf.
        cpus: Of one trial; at least one thread is used.
        gpus: Of one trial; a fraction shares a GPU.
        shelf: Shared by all machines, in the place of `folder`.
    """

    job: Job
    rows: Mapping[int, FoldRows]
    folder: Path
    cpus: float
    gpus: float
    shelf: Shelf | None = None


def choose_device(gpus: float) -> str:
    """The device of a trial on this worker.

    Raises:
        OsteoError: A GPU was asked for and PyTorch sees none here.
    """
    return check_device("cuda" if gpus else "cpu")


def check_device(device: str) -> str:
    """The device that a job was planned for, where this worker has it.

    Raises:
        OsteoError: It is a GPU and PyTorch sees none here.
    """
    if device == "cuda" and not torch.cuda.is_available():
        remedy = "install a CUDA build of PyTorch on the workers, or set `gpu: 0`"
        raise OsteoError("a GPU was asked for, and PyTorch sees none", where="experiments.resources", remedy=remedy)
    return device


def count_threads(cpus: float) -> int:
    """Threads of a trial: one for each whole CPU, at least one."""
    return max(1, int(cpus))


class Trial:
    """The training of one fold, resumed from its last checkpoint where there is one; done where there is a result.

    A worker may be killed after it wrote the result and before the scheduler heard of it.

    Args:
        plan: Of the job.
        arrays: Images; for a frozen backbone its features, on which the head alone is trained.
        fold: Which of the plan's folds.
        start: What a pretrained backbone starts from where it is trained, too.
        checkpoint_seconds: A checkpoint is written after an epoch that ends so long after the last one.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: Arrays,
        fold: int,
        *,
        start: Mapping[str, Tensor] | None = None,
        checkpoint_seconds: float = 0.0,
    ) -> None:
        torch.set_num_threads(count_threads(plan.cpus))
        rows, job = plan.rows[fold], plan.job
        self.fold, self._plan = fold, plan
        shelf = plan.shelf / job.key / fold_name(fold) if plan.shelf else None
        self._drawer = Drawer(fold_folder(plan.folder, job.key, fold), shelf)
        self._folder = self._drawer.folder
        self._checkpoint_seconds, self._checkpointed = checkpoint_seconds, time.monotonic()
        self._fit: Fit | None = None
        if read_result(self._folder) is not None:
            self._clear()
            return
        seed = job.fold_seed(fold)
        data = FoldData(arrays.images, arrays.target, arrays.is_ct, rows.train, rows.test)
        recipe = job.recipe
        if job.frozen:
            network = Head(torch.Generator().manual_seed(seed), arrays.images.shape[1])
            recipe = replace(recipe, precision="float32")  # as a head computes in any case; saves autocast's overhead
        else:
            network = build(job.architecture, seed=seed, start=start, **job.spec)
        self._fit = Fit(network, recipe, data, seed=seed, device=check_device(job.device))
        load_checkpoint(self._folder, self._fit)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self._fit.epoch if self._fit else self._plan.job.recipe.epochs

    def advance(self) -> bool:
        """Train one epoch and checkpoint it; whether the trial is finished and its result written."""
        epochs, fit = self._plan.job.recipe.epochs, self._fit
        if fit is None:
            return True
        if fit.epoch < epochs:
            fit.run_epoch()
            if time.monotonic() - self._checkpointed >= self._checkpoint_seconds:
                save_checkpoint(self._folder, fit)
                self._drawer.keep()
                self._checkpointed = time.monotonic()
        if fit.epoch < epochs:
            return False
        self._finish(fit)
        return True

    def _finish(self, fit: Fit) -> None:
        job, network = self._plan.job, fit.network
        total, trainable = count_parameters(network)
        weights = self._folder / WEIGHTS
        save_weights(weights, network, {"architecture": job.architecture, "job": job.key})
        write_result(
            self._folder,
            FoldResult(
                fold=self.fold,
                scores=fit.scores(),
                history=[asdict(epoch) for epoch in fit.history],
                precision=job.recipe.precision if job.frozen else fit.arithmetic,
                device=job.device,
                parameters=total,
                trainable_parameters=trainable,
                weights=weights,
            ),
        )
        self._drawer.keep()
        self._clear()

    def _clear(self) -> None:
        remove_checkpoints(self._folder)  # some 20 MB a fold; the result stands for them now
        self._drawer.keep()
