"""Work that MLflow or Prefect calls running: is anybody at it?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.doctor.servers import judge_prefect
from osteo_models.errors import StoreError
from osteo_models.registry.orphans import Orphan, end_orphans, find_orphans, find_running
from osteo_models.registry.tracking import Tracking
from osteo_models.servers import find_prefect

FLOWS_SECONDS: Final = 60.0
FIX: Final = "`osteo doctor --fix` marks it, and the same command goes on with it"


def check_runs(project: Project) -> Iterator[Ailment]:
    """MLflow's running runs without a process."""
    if project.tracking is None:
        return
    tracking = project.tracking
    for orphan in find_orphans(tracking):
        whose = f"process {orphan.process} is gone" if orphan.process else "it names no process"
        found = f"MLflow says RUNNING, and {whose}"
        yield Ailment(f"run {orphan.run_id} ({orphan.name})", found, FIX, lambda orphan=orphan: _end(tracking, orphan))


def check_flows(project: Project) -> Iterator[Ailment]:
    """Prefect's states against processes, and against MLflow; asked where a Prefect server takes calls."""
    url = find_prefect(project.settings.state, dict(os.environ))
    if not url or judge_prefect(url):
        return
    found = _ask_flows(project, "--dry-run")
    for lost in found["lost"]:
        told = f"Prefect says {lost['state']}, and process {lost['process']} is gone"
        yield Ailment(f"flow run {lost['flow']}", told, FIX, lambda: _mark(project))
    if project.tracking is None:
        return
    lost = {each.process for each in find_orphans(project.tracking)}
    for process in {run.process for run in find_running(project.tracking)} - lost - set(found["living"]):
        told = f"process {process} works on runs of MLflow, and Prefect knows no running flow of it"
        yield Ailment("Prefect", told, f"end it with `kill -INT {process.split(':')[-2]}` if nobody waits for it")


def _end(tracking: Tracking, orphan: Orphan) -> str:
    if orphan not in find_orphans(tracking):  # the same command was given again since the check, and goes on with it
        return "a process works on it by now"
    end_orphans(tracking, [orphan])
    return "marked as KILLED"


def _mark(project: Project) -> str:
    _ask_flows(project)
    return "marked as crashed"


def _ask_flows(project: Project, *arguments: str) -> dict[str, Any]:
    """What the pipelines, which alone know Prefect, say of its flow runs."""
    command = [sys.executable, "-m", "pipelines.reconcile", *arguments]
    given: dict[str, Any] = {"cwd": project.settings.root, "capture_output": True, "text": True, "check": False}
    try:
        done = subprocess.run(command, timeout=FLOWS_SECONDS, **given)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise StoreError(
            "its server does not say which flows run", where="Prefect", remedy="run `osteo down`, then `osteo up`"
        ) from None


CHECKS: Final[tuple[Check, ...]] = (check_runs, check_flows)
