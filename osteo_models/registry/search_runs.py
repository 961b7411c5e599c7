"""A search as MLflow runs: one parent for the study, one child for each candidate that has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from mlflow.entities import Metric

from osteo_models.registry.runs import EXPERIMENTS, FAILURE_TAG, note_synthetic
from osteo_models.registry.tracking import TEXT, Tracking
from osteo_models.search.leaderboard import Record

EXPERIMENT: Final = f"{EXPERIMENTS}search"
CANDIDATE_TAG: Final = "osteo.candidate"
STATUS_TAG: Final = "osteo.status"


def begin_search(tracking: Tracking, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Find or make the run of a search, as `Tracking.begin_run`; a finished search may go on with more candidates."""
    tags = {**tags, **note_synthetic(tags)}
    return tracking.begin_run(EXPERIMENT, key, f"traditional_cnn-{key[:6]}", params, tags, reopen=True)


def log_candidate(tracking: Tracking, run_id: str, record: Record) -> None:
    """Record a closed candidate as a child run; one that is recorded already is left as it is."""
    now = time.time()  # times are not known if the worker died
    started, ended = (record.timing.started, record.timing.ended) if record.timing else (now, now)
    start, end = round(1000 * started), round(1000 * ended)
    params = {f"spec.{name}": value for name, value in record.spec.items()}
    if record.learning_rate is not None:
        params["learning_rate"] = record.learning_rate
    metrics: dict[str, float] = {"parameters": record.parameters, "macs": record.macs}
    if record.seconds_per_epoch is not None:
        metrics["seconds_per_epoch"] = record.seconds_per_epoch
    points = [Metric("balanced_accuracy", value, end, epoch) for epoch, value in record.values.items()]
    points += [Metric(key, float(value), end, 0) for key, value in metrics.items()]
    failure = {FAILURE_TAG: record.reason[:TEXT]} if record.reason else {}
    tracking.log_child(
        run_id,
        {CANDIDATE_TAG: str(record.number)},
        f"candidate-{record.number}",
        params,
        points,
        start=start,
        end=end,
        tags={STATUS_TAG: record.status, **failure},
        status="FAILED" if record.status == "failed" else "FINISHED",
    )
