"""All that MLflow and the disk have of a version, to see that nothing of it changed."""

from __future__ import annotations

from typing import Any

from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from tests.registry.gate_cases import files_of


def photograph(tracking: Tracking, version: VersionInfo) -> tuple[Any, ...]:
    """Everything of a version, its run and its model: bytes, tags, metrics with their history, times of change."""
    client, files = tracking.client, files_of(tracking, version)
    held, run = client.get_model_version(version.name, str(version.version)), client.get_run(version.run_id)
    model = client.get_logged_model(version.model_id)
    return (
        {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(files.rglob("*")) if path.is_file()},
        (held.tags, held.description, held.last_updated_timestamp, held.status),
        (run.data.tags, run.data.params, run.info.status, run.info.run_name, run.info.end_time),
        {name: [str(point) for point in client.get_metric_history(version.run_id, name)] for name in run.data.metrics},
        (model.tags, model.params, model.status, model.last_updated_timestamp, sorted(map(str, model.metrics))),
    )
