"""Cross-validation: the folds of a job as trials of Ray Tune, or as plain tasks where only heads are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import ray

from osteo_models.core.errors import OsteoError
from osteo_models.training.backbone_cache import BackboneInputs
from osteo_models.training.failures import explain_failures, run_tasks
from osteo_models.training.fold import FoldRows
from osteo_models.training.jobs import Job
from osteo_models.training.ray_cluster import Cluster
from osteo_models.training.result_store import SETTING, FoldResult, check_reach, find_result
from osteo_models.training.trial import Trial, TrialConfig, TrialSettings, make_config
from osteo_models.training.tune import TrialReport, run_trials

OnEpoch = Callable[[Job, int, int], None]  # job, fold, finished epochs
OnFold = Callable[[FoldResult], None]

HEAD_CHECKPOINT_SECONDS: Final = 2.0  # an epoch of a head takes less time than its checkpoint


def run_job(
    job: Job,
    rows: Mapping[int, FoldRows],
    cluster: Cluster,
    *,
    folder: Path,
    at_once: int = 1,
    inputs: BackboneInputs | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_fold: OnFold = lambda _: None,
) -> Sequence[FoldResult]:
    """Train the folds of a job that have no result yet, one trial per fold.

    Args:
        job: What to train.
        rows: The rows of each fold.
        cluster: From `open_cluster`.
        folder: Of all jobs' results; every worker must reach it where the cluster has no store.
        at_once: Most trials that run at the same time. Each is a worker process, which costs seconds to start and is
            reused for the job's next fold; where many jobs run in parallel, one each keeps the cluster busy.
        inputs: Of a pretrained network, from `BackboneCache`.
        on_epoch: Called in the driver after each epoch, of heads after the last.
        on_fold: Called in the driver once for each fold, also for those that were finished before.

    Returns:
        The results of all folds, in order.

    Raises:
        OsteoError: Trials failed, with the reason of the first.
    """
    where, results = f"{job.stage} {job.name}", dict[int, FoldResult]()

    def collect(fold: int) -> None:
        """Report a fold once, as soon as its result is there."""
        if fold not in results and (result := find_result(folder, cluster.store, job.key, fold)):
            results[fold] = result
            on_fold(result)

    def count(fold: int, epochs: int) -> None:
        on_epoch(job, fold, epochs)
        if epochs == job.recipe.epochs:
            collect(fold)

    for fold in rows:
        collect(fold)
    if missing := [fold for fold in rows if fold not in results]:
        folder.mkdir(parents=True, exist_ok=True)
        settings = TrialSettings(rows, folder, cluster.cpus, cluster.gpus, cluster.store)
        configs = {fold: make_config(job, fold) for fold in missing}
        if inputs and inputs.features:
            errors = _train_heads(settings, configs, inputs.features, count)
        else:
            errors = _train_folds(settings, configs, cluster, inputs, at_once, count)
        if errors:
            raise explain_failures(errors, len(missing), where)
    for fold in rows:  # a shared file system may not have shown a result at the moment when its trial ended
        collect(fold)
    if len(results) < len(rows):
        found = f"{len(rows) - len(results)} folds left no result in {folder}"
        raise OsteoError(found, where=where, remedy=f"all machines must see the same: set {SETTING}")
    return [results[fold] for fold in rows]


def _train_folds(
    settings: TrialSettings,
    configs: Mapping[int, TrialConfig],
    cluster: Cluster,
    inputs: BackboneInputs | None,
    at_once: int,
    on_epoch: Callable[[int, int], None],
) -> Sequence[BaseException]:
    """Train folds with Tune; give the errors of those that failed."""
    errors: list[BaseException] = []

    def on_report(config: TrialConfig, report: TrialReport) -> bool:
        if report.epoch is None:
            errors.append(OsteoError(report.failure))
        else:
            on_epoch(next(iter(config.seeds)), report.epoch.epoch)
        return report.finished

    waiting = iter(configs[fold] for fold in sorted(configs))
    run_trials(
        settings,
        cluster,
        name=next(iter(configs.values())).key,
        trials=len(configs),
        at_once=at_once,
        next_config=lambda: next(waiting, None),
        on_report=on_report,
        on_failure=lambda _, text: errors.append(OsteoError(text)),
        tensors=inputs.tensors if inputs else None,
    )
    return errors


def _train_heads(
    settings: TrialSettings,
    configs: Mapping[int, TrialConfig],
    features: ray.ObjectRef,
    on_epoch: Callable[[int, int], None],
) -> Sequence[BaseException]:
    """Train heads on stored features as plain Ray tasks: each takes a second, less than Tune takes to start."""
    settings = replace(settings, checkpoint_seconds=HEAD_CHECKPOINT_SECONDS)
    task = ray.remote(_train_head).options(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0)
    return run_tasks(lambda fold: task.remote(settings, configs[fold], [features]), sorted(configs), on_epoch)


def _train_head(settings: TrialSettings, config: TrialConfig, features: list[ray.ObjectRef]) -> int:
    """Train one fold to its end, on a worker; gives the number of epochs."""
    check_reach(settings.folder, settings.store)
    trial = Trial(settings, config, ray.get(features[0]))
    while not (report := trial.run_epoch()).finished:
        pass
    return report.epoch
