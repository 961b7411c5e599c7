"""One trial: a configuration trained on one or more folds, an epoch of each at a time. Independent of the scheduler.

Cross-validation runs one fold per trial, a search all folds of a candidate. Every worker process imports this module,
so it imports little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from osteo_models.core.errors import OsteoError
from osteo_models.models import build, count_parameters
from osteo_models.models.head import Head
from osteo_models.training.checkpoint import load_checkpoint, remove_checkpoints, save_checkpoint, save_weights
from osteo_models.training.epoch_metrics import balance_patients
from osteo_models.training.fit import Fit
from osteo_models.training.fold import Arrays, FoldData, FoldRows
from osteo_models.training.inference import Scores
from osteo_models.training.jobs import Job
from osteo_models.training.pretrained_plan import PretrainedWeights
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import (
    WEIGHTS,
    FoldResult,
    ResultStore,
    TrialFolder,
    fold_folder,
    fold_name,
    read_result,
    write_result,
)


@dataclass(frozen=True)
class TrialConfig:
    """What one trial trains, and on which folds.

    Attributes:
        key: Folder of its checkpoints and results: a job's key, or `<study>/candidate-<number>`.
        spec: Settings of the architecture.
        recipe: With the precision resolved.
        seeds: By fold, the seed of initial weights and batch order.
        device: `cpu` or `cuda`.
        pretrained: Initial weights of a pretrained network; None for all others.
    """

    key: str
    architecture: str
    spec: Mapping[str, Any]
    recipe: Recipe
    seeds: Mapping[int, int]
    device: str
    pretrained: PretrainedWeights | None = None

    @property
    def frozen(self) -> bool:
        """Whether a head is trained on the stored features of a frozen backbone."""
        return self.pretrained is not None and self.pretrained.frozen


@dataclass(frozen=True)
class TrialSettings:
    """What the trials of one Ray Tune job share.

    Attributes:
        rows: The rows of each fold.
        folder: Of all checkpoints and results; every worker must reach it where there is no store.
        cpus: CPUs of one trial; at least one thread is used.
        gpus: GPUs of one trial; a fraction shares a GPU.
        store: Shared by all machines, used instead of `folder`.
        patient: (N,), a number per patient, for the balanced accuracy of patients in the reports.
        checkpoint_seconds: Seconds of training after which a finished epoch is checkpointed.
    """

    rows: Mapping[int, FoldRows]
    folder: Path
    cpus: float
    gpus: float
    store: ResultStore | None = None
    patient: npt.NDArray[np.int64] | None = None
    checkpoint_seconds: float = 0.0


@dataclass(frozen=True)
class EpochReport:
    """The state of a trial after an epoch of all its folds.

    Attributes:
        epoch: Number of finished epochs.
        finished: Whether it was the last one; the results are written then.
        balanced_accuracy: Of patients, mean over the folds; None without `TrialSettings.patient`.
        seconds: Training and testing in this epoch, without what was done before a restart.
        seconds_per_epoch: Mean over folds and epochs so far, those before a restart included.
    """

    epoch: int
    finished: bool
    balanced_accuracy: float | None
    seconds: float
    seconds_per_epoch: float


def make_config(job: Job, *folds: int) -> TrialConfig:
    """The configuration of a job's trial on these folds."""
    seeds = {fold: job.fold_seed(fold) for fold in folds}
    return TrialConfig(job.key, job.architecture, job.spec, job.recipe, seeds, job.device, job.pretrained)


def check_device(device: str) -> str:
    """The given device, `cpu` or `cuda`, if this worker has it.

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
    """The training of one configuration on its folds, resumed from checkpoints; a fold with a result is not trained.

    Args:
        settings: Shared by all trials of the job.
        config: What to train.
        arrays: Images; for a frozen backbone its features, on which the head alone is trained.
        tensors: Initial weights of a pretrained backbone that is trained, too.
    """

    def __init__(
        self,
        settings: TrialSettings,
        config: TrialConfig,
        arrays: Arrays,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.set_num_threads(count_threads(settings.cpus))
        self._settings, self._config, self._arrays = settings, config, arrays
        self._folds = [_Fold(settings, config, arrays, fold, tensors) for fold in config.seeds]
        self._unsaved_seconds = 0.0

    @property
    def epoch(self) -> int:
        """Number of epochs that all folds have finished."""
        return min(fold.epoch for fold in self._folds)

    def run_epoch(self) -> EpochReport:
        """Train one epoch of each fold; write checkpoints, or after the last epoch the results."""
        epochs = self._config.recipe.epochs
        epoch, seconds = min(self.epoch + 1, epochs), 0.0
        for fold in self._folds:
            seconds += fold.advance_to(epoch)
        self._unsaved_seconds += seconds
        if epoch < epochs and self._unsaved_seconds >= self._settings.checkpoint_seconds:
            for fold in self._folds:
                fold.save()
            self._unsaved_seconds = 0.0
        spent = [value for fold in self._folds for value in fold.seconds()]
        return EpochReport(epoch, epoch == epochs, self._balance_patients(), seconds, float(np.mean(spent)))

    def _balance_patients(self) -> float | None:
        patient, target, rows = self._settings.patient, self._arrays.target, self._settings.rows
        if patient is None:
            return None
        tests = [(rows[fold.number].test, fold.scores()) for fold in self._folds]
        return float(np.mean([balance_patients(target[test], scores, patient[test]) for test, scores in tests]))


class _Fold:
    """One fold of a trial: a fit, or the result of a fold that is finished."""

    def __init__(
        self,
        settings: TrialSettings,
        config: TrialConfig,
        arrays: Arrays,
        fold: int,
        tensors: Mapping[str, Tensor] | None,
    ) -> None:
        self.number, self._config = fold, config
        store = settings.store / config.key / fold_name(fold) if settings.store else None
        self._folder = TrialFolder(fold_folder(settings.folder, config.key, fold), store)
        self._result = read_result(self._folder.path)
        if self._result is not None:  # the worker was killed before the scheduler received its report
            self._clear()
            return
        seed, rows, recipe = config.seeds[fold], settings.rows[fold], config.recipe
        if config.frozen:
            network = Head(torch.Generator().manual_seed(seed), arrays.images.shape[1])
            recipe = replace(recipe, precision="float32")  # a head computes in float32; saves autocast's overhead
        else:
            network = build(config.architecture, seed=seed, start=tensors, **config.spec)
        data = FoldData(arrays.images, arrays.target, arrays.modality, rows.train, rows.test)
        self._fit = Fit(network, recipe, data, seed=seed, device=check_device(config.device))
        load_checkpoint(self._folder.path, self._fit)

    @property
    def epoch(self) -> int:
        return self._fit.epoch if self._result is None else self._config.recipe.epochs

    def scores(self) -> Scores:
        return self._fit.scores() if self._result is None else self._result.scores

    def seconds(self) -> list[float]:
        """Seconds of each finished epoch."""
        if self._result is None:
            return [epoch.seconds for epoch in self._fit.history]
        return [epoch["seconds"] for epoch in self._result.history]

    def advance_to(self, epoch: int) -> float:
        """Train until this epoch is finished, and give the seconds; after the last epoch the result is on disk.

        After a kill between two folds the first one is an epoch ahead and has nothing to do.
        """
        if self._result is not None:
            return 0.0
        seconds = 0.0
        while self._fit.epoch < epoch:
            seconds += self._fit.run_epoch().seconds
        if self._fit.epoch >= self._config.recipe.epochs:
            self._finish()
        return seconds

    def save(self) -> None:
        save_checkpoint(self._folder.path, self._fit)
        self._folder.upload()

    def _finish(self) -> None:
        config, fit = self._config, self._fit
        total, trainable = count_parameters(fit.network)
        weights = self._folder.path / WEIGHTS
        save_weights(weights, fit.network, {"architecture": config.architecture, "job": config.key})
        self._result = FoldResult(
            fold=self.number,
            scores=fit.scores(),
            history=[asdict(epoch) for epoch in fit.history],
            precision=config.recipe.precision if config.frozen else fit.arithmetic,
            device=config.device,
            parameters=total,
            trainable_parameters=trainable,
            weights=weights,
        )
        write_result(self._folder.path, self._result)
        self._folder.upload()
        del self._fit
        self._clear()

    def _clear(self) -> None:
        remove_checkpoints(self._folder.path)  # some 20 MB a fold, replaced by the result
        self._folder.upload()
