"""A search as MLflow runs: one parent for the study, one child for each candidate that has come to an end.

Runs are found by their tags, and every call may be repeated without doubling anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mlflow.entities import Metric

from osteo_models.core.processes import name_process
from osteo_models.registry.runs import (
    EXPERIMENTS,
    FAILURE_TAG,
    JOB_TAG,
    NOTE_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    SYNTHETIC_NOTICE,
    is_synthetic,
)
from osteo_models.registry.store import retry_collisions
from osteo_models.registry.tracking import TEXT, Tracking
from osteo_models.search.leaderboard import Record

EXPERIMENT: Final = f"{EXPERIMENTS}search"
CANDIDATE_TAG: Final = "osteo.candidate"
STATUS_TAG: Final = "osteo.status"


def begin_search(tracking: Tracking, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Find or make the run of a search; one that was killed or failed is reopened.

    Returns:
        The run's id.
    """
    with tracking.writing():
        return retry_collisions(lambda: _begin(tracking, key, params, tags))


def _begin(tracking: Tracking, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    experiment = tracking.find_experiment(EXPERIMENT)
    runs = tracking.find_runs([experiment], {JOB_TAG: key})
    run = runs[0] if runs else tracking.create_once(experiment, {JOB_TAG: key}, f"traditional_cnn-{key[:6]}")
    if run.info.status != "RUNNING":
        tracking.client.update_run(run.info.run_id, status="RUNNING")
    if FAILURE_TAG in run.data.tags:
        tracking.client.delete_tag(run.info.run_id, FAILURE_TAG)
    missing = {name: value for name, value in params.items() if name not in run.data.params}
    note = {NOTE_TAG: SYNTHETIC_NOTICE} if is_synthetic(tags) else {}
    tracking.log_texts(run.info.run_id, missing, {**tags, **note, PROCESS_TAG: name_process()})
    return run.info.run_id


def log_candidate(tracking: Tracking, run_id: str, record: Record) -> None:
    """Record a closed candidate as a child run; one that is recorded already is left as it is."""
    with tracking.writing():
        experiment = tracking.client.get_run(run_id).info.experiment_id
        tags = {PARENT_TAG: run_id, CANDIDATE_TAG: str(record.number)}
        runs = tracking.find_runs([experiment], tags)
        now = time.time()  # times are not known if the worker died
        started, ended = (record.timing.started, record.timing.ended) if record.timing else (now, now)
        start, end = round(1000 * started), round(1000 * ended)
        child = runs[0] if runs else tracking.create_once(experiment, tags, f"candidate-{record.number}", start)
        child_id = child.info.run_id
        if child.info.status in ("FINISHED", "FAILED"):
            return
        params = {f"spec.{name}": value for name, value in record.spec.items()}
        if record.learning_rate is not None:
            params["learning_rate"] = record.learning_rate
        missing = {key: value for key, value in params.items() if key not in child.data.params}
        failure = {FAILURE_TAG: record.reason[:TEXT]} if record.reason else {}
        tracking.log_texts(child_id, missing, {STATUS_TAG: record.status, **failure})
        # Killed between two batches, a run has some of its points already.
        known = {
            (key, point.step)
            for key in child.data.metrics
            for point in tracking.client.get_metric_history(child_id, key)
        }
        metrics: dict[str, float] = {"parameters": record.parameters, "macs": record.macs}
        if record.seconds_per_epoch is not None:
            metrics["seconds_per_epoch"] = record.seconds_per_epoch
        points = [Metric("balanced_accuracy", value, end, epoch) for epoch, value in record.values.items()]
        points += [Metric(key, float(value), end, 0) for key, value in metrics.items()]
        tracking.log_points(child_id, [point for point in points if (point.key, point.step) not in known])
        status = "FAILED" if record.status == "failed" else "FINISHED"
        tracking.client.set_terminated(child_id, status, end)


def finish_search(
    tracking: Tracking, run_id: str, metrics: Mapping[str, float], artifacts: Iterable[Path] = ()
) -> None:
    """Log what the candidates gave together, and end the run."""
    for path in artifacts:
        tracking.log_artifact(run_id, path)
    with tracking.writing():
        tracking.log_changes(tracking.client.get_run(run_id), metrics)
        tracking.client.set_terminated(run_id, "FINISHED", round(1000 * time.time()))
