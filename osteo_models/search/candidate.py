"""One candidate of a search on a worker: all its folds, an epoch of each at a time. Knows no scheduler.

Imported by every worker process, so it imports little.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray import tune

from osteo_models.core.errors import OsteoError
from osteo_models.core.terms import CONTROL, OSTEOPOROSIS, decide
from osteo_models.models import build
from osteo_models.search.leaderboard import Timing
from osteo_models.training.checkpoint import load_checkpoint, save_checkpoint
from osteo_models.training.failures import name_reason
from osteo_models.training.fit import Fit
from osteo_models.training.fold import FoldData
from osteo_models.training.jobs import FoldRows
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import Drawer, Shelf, check_reach
from osteo_models.training.results import THRESHOLD, fold_name
from osteo_models.training.trial import Arrays, choose_device, count_threads

ARCHITECTURE: Final = "traditional_cnn"


@dataclass(frozen=True)
class Course:
    """What all candidates of a search go through.

    Attributes:
        folds: The rows of each fold.
        patient: (N,), a number per patient.
        seeds: Of initial weights and batch order, per fold: the same for all candidates.
        folder: Of the candidates' checkpoints; every worker must reach it where there is no shelf.
        cpus: Of one candidate.
        gpus: Of one candidate.
        unsaved_seconds: Of training that a kill may cost a candidate beyond its unfinished epoch: to checkpoint all
            folds of a small network after each epoch can take longer than the epoch.
        shelf: Shared by all machines, in the place of `folder`.
    """

    recipe: Recipe
    folds: Sequence[FoldRows]
    patient: npt.NDArray[np.int64]
    seeds: Sequence[int]
    folder: Path
    cpus: float
    gpus: float
    unsaved_seconds: float = 10.0
    shelf: Shelf | None = None


@dataclass(frozen=True)
class Step:
    """What one epoch of all folds gave.

    Attributes:
        epoch: Counted from 1.
        balanced_accuracy: Of patients, mean over the folds.
        seconds: Of training and testing in this epoch, without what was done before a restart.
        seconds_per_epoch: Mean over folds and epochs so far, those before a restart included.
    """

    epoch: int
    balanced_accuracy: float
    seconds: float
    seconds_per_epoch: float


def candidate_folder(folder: Path, number: int) -> Path:
    """Where a candidate keeps its checkpoints."""
    return folder / candidate_name(number)


def candidate_name(number: int) -> str:
    """The name of that folder."""
    return f"candidate-{number}"


class Candidate:
    """The folds of one network, resumed from their last checkpoints where there are some."""

    def __init__(
        self, course: Course, arrays: Arrays, number: int, spec: Mapping[str, Any], learning_rate: float | None
    ) -> None:
        torch.set_num_threads(count_threads(course.cpus))
        self._course, self._arrays = course, arrays
        folder = candidate_folder(course.folder, number)
        shelf = course.shelf / candidate_name(number) if course.shelf else None
        self._drawers = [
            Drawer(folder / fold_name(fold), shelf / fold_name(fold) if shelf else None)
            for fold in range(len(course.folds))
        ]
        recipe = replace(course.recipe, learning_rate=learning_rate) if learning_rate else course.recipe
        device = choose_device(course.gpus)
        self._fits: list[Fit] = []
        for fold, (rows, seed) in enumerate(zip(course.folds, course.seeds, strict=True)):
            data = FoldData(arrays.images, arrays.target, arrays.is_ct, rows.train, rows.test)
            fit = Fit(build(ARCHITECTURE, seed=seed, **spec), recipe, data, seed=seed, device=device)
            load_checkpoint(self._drawers[fold].folder, fit)
            self._fits.append(fit)
        self._kept, self._unsaved = [fit.epoch for fit in self._fits], 0.0

    def advance(self) -> Step:
        """Train one epoch of each fold.

        What was trained before is checkpointed first, and not at its epoch's end: it was worth going on then, and a
        candidate that is stopped or finished writes nothing.
        """
        if self._unsaved >= self._course.unsaved_seconds:
            self._keep()
        epoch, seconds = min(fit.epoch for fit in self._fits) + 1, 0.0
        for fit in self._fits:
            if fit.epoch < epoch:  # killed between two folds, the first is an epoch ahead
                seconds += fit.run_epoch().seconds
        self._unsaved += seconds
        values = [
            balance_patients(self._arrays.target[rows.test], fit.scores(), self._course.patient[rows.test])
            for rows, fit in zip(self._course.folds, self._fits, strict=True)
        ]
        each = [result.seconds for fit in self._fits for result in fit.history]
        return Step(epoch, float(np.mean(values)), seconds, float(np.mean(each)))

    def _keep(self) -> None:
        for fold, fit in enumerate(self._fits):
            if fit.epoch > self._kept[fold]:
                save_checkpoint(self._drawers[fold].folder, fit)
                self._drawers[fold].keep()
                self._kept[fold] = fit.epoch
        self._unsaved = 0.0


def warm_up(course: Course, arrays: Arrays) -> None:
    """Train a tiny network on a few images: much of PyTorch is loaded only then, once for each process."""
    torch.set_num_threads(count_threads(course.cpus))
    rows = course.folds[0]
    data = FoldData(arrays.images, arrays.target, arrays.is_ct, rows.train[:1], rows.test[:1])
    network = build(ARCHITECTURE, filters=[1], pools=20, dense=[])
    Fit(network, course.recipe, data, seed=0, device=choose_device(course.gpus)).run_epoch()


def balance_patients(
    target: npt.NDArray[np.integer], score: npt.NDArray[np.floating], patient: npt.NDArray[np.integer]
) -> float:
    """Balanced accuracy of patients, each decided by the mean score of its images.

    Shapes: target, score, patient: (n,), one row per image; both classes occur.
    """
    _, first, index = np.unique(patient, return_index=True, return_inverse=True)
    mean = np.bincount(index, weights=score.astype(np.float64)) / np.bincount(index)
    truth = target[first]
    right = decide(mean, THRESHOLD) == (truth == OSTEOPOROSIS)
    return float(np.mean([right[truth == label].mean() for label in (CONTROL, OSTEOPOROSIS)]))


class CandidateTrial(tune.Trainable):
    """A candidate as Tune sees it: an epoch of all its folds per step; the process is reused for the next one."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # what `with_parameters` adds
        self, config: dict[str, Any], *, course: Course, arrays: list[ray.ObjectRef]
    ) -> None:
        """Take the images out of the store, once for all candidates and folds, and begin."""
        check_reach(course.folder, course.shelf)
        found = ray.get(arrays[0])
        # The store's arrays are read-only, and each fit would copy such images for itself.
        self._arrays, self._course = Arrays(np.array(found.images), found.target, found.is_ct), course
        warm_up(course, self._arrays)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next candidate without a new process."""
        self._next, self._candidate = new_config, None
        self._started, self._seconds = time.time(), 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch; a candidate that cannot be trained says why."""
        found = dict[str, Any]()
        try:
            step = self._advance()
            self._seconds += step.seconds
            found |= asdict(step)
        except OsteoError as error:
            self._candidate, found["failed"] = None, str(error)
        except (RuntimeError, MemoryError) as error:  # PyTorch tells of missing memory as a RuntimeError
            self._candidate, found["failed"] = None, name_reason("".join(traceback.format_exception_only(error)))
        worker = f"{platform.node()}-{os.getpid()}"
        timing = Timing(self._next["session"], worker, self._started, time.time(), self._seconds)
        return {"candidate": self._next["candidate"], **asdict(timing), **found}

    def _advance(self) -> Step:
        if self._candidate is None:
            spec, rate = self._next["spec"], self._next["learning_rate"]
            self._candidate = Candidate(self._course, self._arrays, self._next["candidate"], spec, rate)
        return self._candidate.advance()
