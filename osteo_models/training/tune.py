"""Ray Tune: the trials of a job on as many workers as the cluster has. The only importer of ray (and optuna).

A trial keeps its state in its job's folder, one checkpoint per epoch, and not in Tune's own experiment state: whatever
is killed, the next run trains only what has no result yet, each trial from its own last epoch.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from osteo_models.errors import OsteoError
from osteo_models.terms import Precision
from osteo_models.training.jobs import FoldRows, Job
from osteo_models.training.recipe import Arithmetic, resolve_precision
from osteo_models.training.results import FoldResult, fold_folder, read_result
from osteo_models.training.trial import Arrays, Plan, Trial, choose_device

OnEpoch = Callable[[Job, int, int], None]  # job, fold, finished epochs
OnFold = Callable[[FoldResult], None]

_REGISTERING = threading.Lock()
MOST_FAILURES = 2  # a trial whose worker dies is started again, from its checkpoint


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster with the images in its object store, once per node.

    Attributes:
        slots: How many trials fit at once.
        precision: What the recipe's precision means on its workers.
        device: Of its workers, `cpu` or `cuda`.
        cpus: Of one trial.
        gpus: Of one trial.
    """

    slots: int
    precision: Arithmetic
    device: str
    arrays: ray.ObjectRef
    cpus: float
    gpus: float


@contextmanager
def open_cluster(
    address: str | None, arrays: Arrays, *, cpus: float, gpus: float, precision: Precision
) -> Iterator[Cluster]:
    """Connect to a cluster, or start a local one, and put the images into its object store.

    Args:
        address: RAY_ADDRESS; None starts a local cluster that ends with this context.
        arrays: Images and targets.
        cpus: Of one trial.
        gpus: Of one trial, fractions allowed.
        precision: `auto` is resolved on a worker, where the training happens.

    Raises:
        OsteoError: The cluster cannot be reached, or cannot hold one trial.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow keeps the curves; no second copy
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Ray puts sockets below its folder, and their paths must stay under 108 characters.
    local = {"include_dashboard": False, "_temp_dir": str(Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}")}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = f"no Ray cluster ({error})" if address else f"a local Ray cluster did not start ({error})"
        raise OsteoError(found, where="RAY_ADDRESS", remedy="unset RAY_ADDRESS to use this machine") from None
    try:
        slots = _count_slots(cpus, gpus)
        asked = ray.remote(num_cpus=cpus, num_gpus=gpus)(_resolve_here).remote(precision, gpus)
        try:
            arithmetic, device = ray.get(asked)
        except RayTaskError as error:
            raise error.cause from None
        yield Cluster(slots, arithmetic, device, ray.put(arrays), cpus, gpus)
    finally:
        ray.shutdown()


def _count_slots(cpus: float, gpus: float) -> int:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have = ray.cluster_resources()
    # A trial lies on one node, so what is left over on two nodes holds none.
    slots = sum(
        min(int(node.get("CPU", 0) / cpus), int(node.get("GPU", 0) / gpus) if gpus else sys.maxsize) for node in nodes
    )
    if slots < 1:
        raise OsteoError(
            f"the cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs",
            where="experiments.resources",
            allowed=f"at least {cpus:g} CPUs and {gpus:g} GPUs for one trial",
            remedy="lower the resources of a trial in params.yaml",
        )
    return slots


def _resolve_here(precision: Precision, gpus: float) -> tuple[Arithmetic, str]:
    device = choose_device(gpus)
    return resolve_precision(precision, device), device


class FoldTrial(tune.Trainable):
    """A trial as Tune sees it: an epoch per step; the process is reused for the next fold."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # what `with_parameters` adds
        self, config: dict[str, Any], *, plan: Plan, arrays: list[ray.ObjectRef]
    ) -> None:
        """Start or resume the fold that `config` names."""
        self._plan, self._arrays = plan, ray.get(arrays[0])
        self._trial = Trial(plan, self._arrays, config["fold"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next fold without a new process."""
        self._trial = Trial(self._plan, self._arrays, new_config["fold"])
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        done = self._trial.advance()
        return {"epoch": self._trial.epoch, "fold": self._trial.fold, "done": done}


class _Report(tune.Callback):
    """Tells the driver of epochs and finished folds, while the job runs."""

    def __init__(self, job: Job, folder: Path, on_epoch: OnEpoch, on_fold: OnFold) -> None:
        self._job, self._folder, self._on_epoch, self._on_fold = job, folder, on_epoch, on_fold

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with an experiment's state, which is never read again; the driver cannot be saved.
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._on_epoch(self._job, result["fold"], result["epoch"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        result = read_result(fold_folder(self._folder, self._job.key, trial.config["fold"]))
        if result is not None:
            self._on_fold(result)


def run_job(
    job: Job,
    rows: Mapping[int, FoldRows],
    cluster: Cluster,
    *,
    folder: Path,
    at_once: int = 1,
    on_epoch: OnEpoch = lambda *_: None,
    on_fold: OnFold = lambda _: None,
) -> Sequence[FoldResult]:
    """Train the folds of a job that have no result yet, as trials of one Ray Tune job.

    Args:
        job: What to train.
        rows: The rows of each fold.
        cluster: From `open_cluster`.
        folder: Of all jobs' checkpoints and results; every worker must reach it.
        at_once: Most trials that run at the same time. Each is a worker process, which costs seconds to start and is
            reused for the job's next fold; where many jobs run side by side, one each keeps the cluster busy.
        on_epoch: Called in the driver after each epoch.
        on_fold: Called in the driver for each fold, also for those that were finished before.

    Returns:
        The results of all folds, in order.

    Raises:
        OsteoError: Trials failed, with the reason of the first.
    """
    found = {fold: read_result(fold_folder(folder, job.key, fold)) for fold in rows}
    for result in found.values():
        if result is not None:
            on_fold(result)
    missing = {fold: rows[fold] for fold, result in found.items() if result is None}
    if missing:
        plan = Plan(job, missing, folder, cluster.cpus, cluster.gpus)
        _run_trials(plan, cluster, at_once, _Report(job, folder, on_epoch, on_fold))
        found |= {fold: read_result(fold_folder(folder, job.key, fold)) for fold in missing}
    whole = [result for result in found.values() if result is not None]
    if len(whole) < len(rows):
        raise OsteoError(f"{len(rows) - len(whole)} folds left no result", where=f"{job.stage} {job.name}")
    return whole


def _run_trials(plan: Plan, cluster: Cluster, at_once: int, report: _Report) -> None:
    job = plan.job
    tuner = tune.Tuner(
        _register_trainable(plan, cluster),
        param_space={"fold": tune.grid_search(sorted(plan.rows))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=at_once),
        run_config=tune.RunConfig(
            name=f"{job.name}-{job.key}",
            storage_path=str(plan.folder.parent / "ray"),
            callbacks=[report],
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
            # The trial checkpoints itself; Tune's own checkpoints would be a second truth.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    errors = tuner.fit().errors
    if errors:
        reason = str(errors[0]).strip().splitlines()[-1]
        found = f"{len(errors)} of {len(plan.rows)} trials failed: {reason}"
        raise OsteoError(found, where=f"{job.stage} {job.name}")


def _register_trainable(plan: Plan, cluster: Cluster) -> str:
    """Register the job's trial under a name of its own and give the name.

    Tune finds trainables and their parameters by class name in one registry of the process, which is neither guarded
    nor told apart by job; jobs run side by side in threads.
    """
    name = f"{FoldTrial.__name__}_{plan.job.key}"
    trial = type(name, (FoldTrial,), {"__module__": FoldTrial.__module__})
    with _REGISTERING:
        # A list keeps the reference a reference: bare, Tune would resolve it and store a copy per job.
        bound = tune.with_parameters(trial, plan=plan, arrays=[cluster.arrays])
        tune.register_trainable(name, tune.with_resources(bound, {"cpu": plan.cpus, "gpu": plan.gpus}))
    return name
