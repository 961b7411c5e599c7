"""Ray Tune: the trials of a job on as many workers as the cluster has. The only importer of ray (and optuna).

A trial keeps its state in its job's folder, one checkpoint per epoch, and not in Tune's own experiment state: whatever
is killed, the next run trains only what has no result yet, each trial from its own last epoch.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray import tune

from osteo_models.errors import OsteoError
from osteo_models.models import build, count_parameters
from osteo_models.params import Resources
from osteo_models.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from osteo_models.training.fit import Fit, FoldData
from osteo_models.training.jobs import FoldRows, Job, Tables, modality_flags, select_rows
from osteo_models.training.recipe import resolve_precision
from osteo_models.training.results import (
    WEIGHTS,
    FoldResult,
    fold_folder,
    read_history,
    read_result,
    write_history,
    write_result,
)

Progress = Callable[[Job, int, int], None]  # job, fold, finished epochs
MOST_FAILURES = 2  # a trial whose worker dies is started again, from its checkpoint


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster with the images in its object store, once per node."""

    slots: int
    precision: str
    arrays: ray.ObjectRef


@dataclass(frozen=True)
class Arrays:
    """What every trial reads: images uint8 (N, 80, 60), target (N,), is_ct (N,)."""

    images: npt.NDArray[np.uint8]
    target: npt.NDArray[np.int64]
    is_ct: npt.NDArray[np.bool_]


@contextmanager
def open_cluster(
    address: str | None, state: Path, tables: Tables, resources: Resources, precision: str
) -> Iterator[Cluster]:
    """Connect to a cluster, or start a local one, and put the images into its object store.

    Args:
        address: RAY_ADDRESS; None starts a local cluster that ends with this context.
        state: Folder for Ray's own files.
        tables: Images and splits.
        resources: What one trial takes.
        precision: Of the recipe; `auto` is resolved on a worker, where the training happens.

    Raises:
        OsteoError: The cluster cannot be reached, or no node can ever hold one trial.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow keeps the curves; no second copy
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else {"_temp_dir": _short_folder()}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = f"no Ray cluster ({error})" if address else f"a local Ray cluster did not start ({error})"
        raise OsteoError(found, where="RAY_ADDRESS", remedy="unset RAY_ADDRESS to use this machine") from None
    try:
        slots = _count_slots(resources)
        arrays = Arrays(
            np.ascontiguousarray(tables.images),
            tables.splits["target"].to_numpy(np.int64),
            modality_flags(tables),
        )
        remote = ray.remote(num_cpus=resources.cpu, num_gpus=resources.gpu)(_resolve_here)
        yield Cluster(slots, ray.get(remote.remote(precision, resources.gpu)), ray.put(arrays))
    finally:
        ray.shutdown()


def _short_folder() -> str:
    # Ray puts sockets below this folder, and their paths must stay under 108 characters.
    return str(Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}")


def _count_slots(resources: Resources) -> int:
    have = ray.cluster_resources()
    slots = int(have.get("CPU", 0) / resources.cpu)
    if resources.gpu:
        slots = min(slots, int(have.get("GPU", 0) / resources.gpu))
    if slots < 1:
        raise OsteoError(
            f"the cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs",
            where="experiments.resources",
            allowed=f"at least {resources.cpu:g} CPUs and {resources.gpu:g} GPUs for one trial",
            remedy="lower the resources of a trial in params.yaml",
        )
    return slots


def _resolve_here(precision: str, gpu: float) -> str:
    return resolve_precision(precision, _device(gpu))  # type: ignore[arg-type]


def _device(gpu: float) -> str:
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


class FoldTrial(tune.Trainable):
    """One fold: an epoch per step, a checkpoint after each, a result at the end; actors are reused between folds."""

    def setup(self, config: dict[str, Any], **fixed: Any) -> None:
        """Start or resume the fold that `config` names."""
        self._fixed = fixed
        torch.set_num_threads(max(1, int(fixed["resources"].cpu)))
        self._start(config["fold"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next fold without a new process."""
        self._start(new_config["fold"])
        return True

    def _start(self, fold: int) -> None:
        job: Job = self._fixed["job"]
        arrays: Arrays = (
            self._fixed["arrays"] if isinstance(self._fixed["arrays"], Arrays) else ray.get(self._fixed["arrays"])
        )
        rows: FoldRows = self._fixed["rows"][fold]
        data = FoldData(arrays.images, arrays.target, arrays.is_ct, rows.train, rows.test)
        seed = job.fold_seed(fold)
        network = build(job.architecture, seed=seed, **job.spec)
        self._fold, self._job = fold, job
        self._folder = fold_folder(self._fixed["jobs"], job.key, fold)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fit = Fit(network, job.recipe, data, seed=seed, device=_device(self._fixed["resources"].gpu))
        load_checkpoint(self._folder, self._fit)
        self._history = read_history(self._folder, self._fit.epoch)

    def step(self) -> dict[str, Any]:
        """Train one epoch; the last one also leaves the result."""
        if self._fit.epoch < self._job.recipe.epochs:
            result = self._fit.run_epoch()
            self._history.append(vars(result).copy() if hasattr(result, "__dict__") else dict(result))
            write_history(self._folder, self._history)
            save_checkpoint(self._folder, self._fit)
        done = self._fit.epoch >= self._job.recipe.epochs
        if done:
            self._finish()
        return {"epoch": self._fit.epoch, "fold": self._fold, "done": done}

    def _finish(self) -> None:
        network = self._fit.network
        total, trainable = count_parameters(network)
        save_weights(self._folder / WEIGHTS, network, {"architecture": self._job.architecture, "job": self._job.key})
        write_result(
            self._folder,
            FoldResult(
                fold=self._fold,
                scores=self._fit.scores(),
                history=self._history,
                precision=self._job.recipe.precision,
                device=_device(self._fixed["resources"].gpu),
                parameters=total,
                trainable_parameters=trainable,
                weights=self._folder / WEIGHTS,
            ),
        )


class _Report(tune.Callback):
    """Tells the driver of epochs and finished folds, while the job runs."""

    def __init__(self, job: Job, jobs: Path, on_epoch: Progress | None, on_fold: Callable[[FoldResult], None]) -> None:
        self._job, self._jobs, self._on_epoch, self._on_fold = job, jobs, on_epoch, on_fold

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if self._on_epoch:
            self._on_epoch(self._job, result["fold"], result["epoch"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        result = read_result(fold_folder(self._jobs, self._job.key, trial.config["fold"]))
        if result is not None:
            self._on_fold(result)


def run_job(
    job: Job,
    tables: Tables,
    cluster: Cluster,
    *,
    jobs: Path,
    resources: Resources,
    on_epoch: Progress | None = None,
    on_fold: Callable[[FoldResult], None] = lambda _: None,
) -> Sequence[FoldResult]:
    """Train the folds of a job that have no result yet, as trials of one Ray Tune job.

    Args:
        job: What to train.
        tables: Images and splits.
        cluster: From `open_cluster`.
        jobs: Folder of checkpoints and results; every worker must reach it.
        resources: What one trial takes.
        on_epoch: Called in the driver after each epoch.
        on_fold: Called in the driver for each fold, also for those that were finished before.

    Returns:
        The results of all folds, in order.

    Raises:
        OsteoError: Trials failed, with the reason of the first.
    """
    missing: list[int] = []
    for fold in range(job.folds):
        finished = read_result(fold_folder(jobs, job.key, fold))
        if finished is None:
            missing.append(fold)
        else:
            on_fold(finished)
    if missing:
        _run_trials(job, tables, cluster, missing, jobs, resources, _Report(job, jobs, on_epoch, on_fold))
    results = [read_result(fold_folder(jobs, job.key, fold)) for fold in range(job.folds)]
    whole = [result for result in results if result is not None]
    if len(whole) < job.folds:
        raise OsteoError(f"{job.folds - len(whole)} folds left no result", where=f"{job.stage} {job.name}")
    return whole


def _run_trials(
    job: Job, tables: Tables, cluster: Cluster, folds: Sequence[int], jobs: Path, resources: Resources, report: _Report
) -> None:
    fixed = {
        "job": job,
        "rows": {fold: select_rows(job, fold, tables) for fold in folds},
        "arrays": cluster.arrays,
        "jobs": jobs,
        "resources": resources,
    }
    trainable = tune.with_resources(
        tune.with_parameters(FoldTrial, **fixed), {"cpu": resources.cpu, "gpu": resources.gpu}
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"fold": tune.grid_search(list(folds))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name=f"{job.name}-{job.key}",
            storage_path=str(jobs.parent / "ray"),
            callbacks=[report],
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
            verbose=0,
        ),
    )
    grid = tuner.fit()
    if grid.errors:
        reason = str(grid.errors[0]).strip().splitlines()[-1]
        raise OsteoError(f"{len(grid.errors)} of {len(folds)} trials failed: {reason}", where=f"{job.stage} {job.name}")
