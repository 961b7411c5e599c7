"""Ray Tune: the trials of a job on as many workers as the cluster has.

A trial keeps its state in its job's folder, one checkpoint per epoch, and not in Tune's own experiment state: whatever
is killed, the next run trains only what has no result yet, each trial from its own last epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray import tune

from osteo_models.core.errors import OsteoError, StoreError
from osteo_models.training.failures import MOST_FAILURES, explain_failures
from osteo_models.training.heads import Inputs, OnEpoch, OnFold, train_heads
from osteo_models.training.jobs import FoldRows, Job
from osteo_models.training.ray_cluster import Cluster, open_cluster, share_slots
from osteo_models.training.result_store import SETTING, check_reach, find_result
from osteo_models.training.results import FoldResult
from osteo_models.training.trial import Plan, Trial

__all__ = ["Cluster", "open_cluster", "run_job", "share_slots"]

FAILED: Final = "failed"  # why a trial ended without a result

_REGISTERING = threading.Lock()


class FoldTrial(tune.Trainable):
    """A trial as Tune sees it: an epoch per step; the process is reused for the next fold."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # what `with_parameters` adds
        self, config: dict[str, Any], *, plan: Plan, inputs: list[ray.ObjectRef]
    ) -> None:
        """Start or resume the fold that `config` names; `inputs` are the images, and a pretrained network's start."""
        check_reach(plan.folder, plan.shelf)
        self._plan, (self._arrays, *start) = plan, ray.get(inputs)
        self._start = start[0] if start else None
        self._trial = Trial(plan, self._arrays, config["fold"], start=self._start)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next fold without a new process."""
        self._trial = Trial(self._plan, self._arrays, new_config["fold"], start=self._start)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch. An error of ours, such as a full disk, ends the trial: another try would meet it again."""
        about = {"epoch": self._trial.epoch + 1, "fold": self._trial.fold}
        try:
            return {**about, "done": self._trial.advance(), "epoch": self._trial.epoch}
        except StoreError:  # of the store that machines share: it may be back soon
            raise
        except OsteoError as error:
            return {**about, "done": True, FAILED: str(error)}


class _Report(tune.Callback):
    """Tells the driver of epochs and finished folds, while the job runs."""

    def __init__(self, plan: Plan, on_epoch: OnEpoch, on_fold: OnFold) -> None:
        self._plan, self._on_epoch, self._on_fold = plan, on_epoch, on_fold

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks with an experiment's state, which is never read again; the driver cannot be saved.
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if FAILED not in result:
            self._on_epoch(self._plan.job, result["fold"], result["epoch"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        plan = self._plan
        result = find_result(plan.folder, plan.shelf, plan.job.key, trial.config["fold"])
        if result is not None:
            self._on_fold(result)


def run_job(
    job: Job,
    rows: Mapping[int, FoldRows],
    cluster: Cluster,
    *,
    folder: Path,
    at_once: int = 1,
    inputs: Inputs | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_fold: OnFold = lambda _: None,
) -> Sequence[FoldResult]:
    """Train the folds of a job that have no result yet, as trials of one Ray Tune job.

    Heads on stored features are done in a second each, less than Tune takes to start: they are plain tasks.

    Args:
        job: What to train.
        rows: The rows of each fold.
        cluster: From `open_cluster`.
        folder: Of all jobs' results; every worker must reach it where the cluster has no shelf.
        at_once: Most trials that run at the same time. Each is a worker process, which costs seconds to start and is
            reused for the job's next fold; where many jobs run side by side, one each keeps the cluster busy.
        inputs: Of a pretrained network, from `Starters`.
        on_epoch: Called in the driver after each epoch, of heads after the last.
        on_fold: Called in the driver once for each fold, also for those that were finished before.

    Returns:
        The results of all folds, in order.

    Raises:
        OsteoError: Trials failed, with the reason of the first.
    """
    shelf = cluster.shelf
    told = set[int]()

    def tell(result: FoldResult) -> None:
        if result.fold not in told:
            told.add(result.fold)
            on_fold(result)

    found = {fold: find_result(folder, shelf, job.key, fold) for fold in rows}
    for result in found.values():
        if result is not None:
            tell(result)
    missing = {fold: rows[fold] for fold, result in found.items() if result is None}
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        plan = Plan(job, missing, folder, cluster.cpus, cluster.gpus, shelf)
        if job.frozen and inputs and inputs.features:
            train_heads(plan, cluster, inputs.features, on_epoch, tell)
        else:
            _run_trials(plan, cluster, inputs, at_once, _Report(plan, on_epoch, tell))
        found |= {fold: find_result(folder, shelf, job.key, fold) for fold in missing}
    whole = [result for result in found.values() if result is not None]
    for result in whole:  # a shared file system may not have shown it at the moment when its trial ended
        tell(result)
    if len(whole) < len(rows):
        found = f"{len(rows) - len(whole)} folds left no result in {folder}"
        raise OsteoError(
            found, where=f"{job.stage} {job.name}", remedy=f"all machines must see the same: set {SETTING}"
        )
    return whole


def _run_trials(plan: Plan, cluster: Cluster, inputs: Inputs | None, at_once: int, report: _Report) -> None:
    job = plan.job
    tuner = tune.Tuner(
        _register_trainable(plan, cluster, inputs),
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
    results = tuner.fit()
    told = [OsteoError(last[FAILED]) for result in results if FAILED in (last := result.metrics or {})]
    if errors := [*results.errors, *told]:
        raise explain_failures(errors, len(plan.rows), f"{job.stage} {job.name}")


def _register_trainable(plan: Plan, cluster: Cluster, inputs: Inputs | None) -> str:
    """Register the job's trial under a name of its own and give the name.

    Tune finds trainables and their parameters by class name in one registry of the process, which is neither guarded
    nor told apart by job; jobs run side by side in threads.
    """
    name = f"{FoldTrial.__name__}_{plan.job.key}"
    trial = type(name, (FoldTrial,), {"__module__": FoldTrial.__module__})
    with _REGISTERING:
        # A list keeps references what they are: bare, Tune would resolve them and store a copy per job.
        start = [inputs.start] if inputs and inputs.start else []
        bound = tune.with_parameters(trial, plan=plan, inputs=[cluster.arrays, *start])
        tune.register_trainable(name, tune.with_resources(bound, {"cpu": plan.cpus, "gpu": plan.gpus}))
    return name
