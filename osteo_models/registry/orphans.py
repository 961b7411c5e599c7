"""Unfinished MLflow runs whose process is gone."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from osteo_models.core.processes import is_gone
from osteo_models.registry.runs import PROCESS_TAG, list_all
from osteo_models.registry.tracking import Tracking


@dataclass(frozen=True)
class Orphan:
    """An unfinished run; `process` is empty where the run names none."""

    run_id: str
    name: str
    process: str


def find_running(tracking: Tracking) -> list[Orphan]:
    """The unfinished runs of jobs, folds and searches, with the process that works on each."""
    with tracking.reading():
        experiments, running = tracking.list_experiments(), "attributes.status = 'RUNNING'"
        runs = list(list_all(tracking.client.search_runs, experiments, running)) if experiments else []
    return [Orphan(run.info.run_id, run.info.run_name or "", run.data.tags.get(PROCESS_TAG, "")) for run in runs]


def find_orphans(tracking: Tracking, ended: Container[str] = ()) -> list[Orphan]:
    """The unfinished runs whose process is gone, or that name none.

    Args:
        tracking: The store.
        ended: Processes that count as gone.
    """
    return [run for run in find_running(tracking) if run.process in ended or not run.process or is_gone(run.process)]


def end_orphans(tracking: Tracking, orphans: Iterable[Orphan]) -> None:
    """Set runs to KILLED; a job that is begun again reopens its own."""
    with tracking.writing():
        for orphan in orphans:
            tracking.client.set_terminated(orphan.run_id, "KILLED")
