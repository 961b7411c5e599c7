"""The journal of promotions, the champions that it names, and what versions need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from osteo_models.core.errors import StoreError
from osteo_models.ops.doctor.problem import Check, Problem, Project
from osteo_models.ops.doctor.server_checks import judge_prefect
from osteo_models.ops.servers import find_prefect
from osteo_models.registry.journal import Journal
from osteo_models.registry.journal_events import RESTORE
from osteo_models.registry.retention import read_runs
from osteo_models.registry.runs import RunningRun, end_orphans, find_orphans, find_running
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.verify import check_evidence, check_judged, check_version
from osteo_models.registry.versions import CHAMPION, get_version, list_aliases, list_versions

FLOWS_SECONDS: Final = 60.0
FIX: Final = "`osteo doctor --fix` marks it, and the same command goes on with it"


def check_journal(project: Project) -> Iterator[Problem]:
    """Events of the journal that were altered, removed or inserted."""
    if project.journal is None:
        return
    for name in project.journal.names():
        for fault in project.journal.verify(name):
            yield Problem(f"journal of {name}", fault, RESTORE)


def check_champions(project: Project) -> Iterator[Problem]:
    """Aliases moved by hand, promotions killed before their alias was set, and evidence that changed."""
    if project.journal is None or project.tracking is None:
        return
    aliases = list_aliases(project.tracking, CHAMPION)
    for name in sorted({*aliases, *project.journal.names()}):
        alias, champion = aliases.get(name), project.journal.state(name).champion
        if alias == champion:
            if champion is not None:
                yield from _check_champion(project.tracking, project.journal, f"{name}/{champion}")
            continue
        found = f"alias {CHAMPION} is {_version(alias)}, the journal says {_version(champion)}"
        back = f"`osteo promote {name} {champion}` puts the alias back"
        judged = f"`osteo promote {name} {alias}` has version {alias} judged"
        yield Problem(
            name, found, ", ".join(step for step, of in ((back, champion), (judged, alias)) if of is not None)
        )


def _check_champion(tracking: Tracking, journal: Journal, reference: str) -> Iterator[Problem]:
    """A champion's evidence: to the byte that which the journal says it was promoted on."""
    version = get_version(tracking, reference)
    for finding in (*check_judged(journal, version), *check_evidence(tracking, version)):
        yield Problem(finding.where, finding.found, finding.remedy)


def check_versions(project: Project) -> Iterator[Problem]:
    """Runs and models of MLflow that were deleted and a version needs; every byte is left to `osteo verify`."""
    if project.tracking is None or not (versions := list_versions(project.tracking)):
        return
    runs = read_runs(project.tracking)
    for version in versions:
        for finding in check_version(project.tracking, version, runs, every_byte=False):
            yield Problem(finding.where, finding.found, finding.remedy)


def _version(number: int | None) -> str:
    return "nowhere" if number is None else f"version {number}"


def check_runs(project: Project) -> Iterator[Problem]:
    """MLflow's running runs without a process."""
    if project.tracking is None:
        return
    tracking = project.tracking
    for orphan in find_orphans(tracking):
        whose = f"process {orphan.process} is gone" if orphan.process else "it names no process"
        found = f"MLflow says RUNNING, and {whose}"
        yield Problem(f"run {orphan.run_id} ({orphan.name})", found, FIX, lambda orphan=orphan: _end(tracking, orphan))


def check_flows(project: Project) -> Iterator[Problem]:
    """Prefect's states against processes, and against MLflow; asked where a Prefect server takes calls."""
    url = find_prefect(project.settings.state, dict(os.environ))
    if not url or judge_prefect(url):
        return
    found = _ask_flows(project, "--dry-run")
    for lost in found["lost"]:
        message = f"Prefect says {lost['state']}, and process {lost['process']} is gone"
        yield Problem(f"flow run {lost['flow']}", message, FIX, lambda: _mark(project))
    if project.tracking is None:
        return
    lost = {each.process for each in find_orphans(project.tracking)}
    for process in {run.process for run in find_running(project.tracking)} - lost - set(found["living"]):
        message = f"process {process} works on runs of MLflow, and Prefect knows no running flow of it"
        yield Problem("Prefect", message, f"end it with `kill -INT {process.split(':')[-2]}` if it is not needed")


def _end(tracking: Tracking, orphan: RunningRun) -> str:
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


CHECKS: Final[tuple[Check, ...]] = (check_journal, check_champions, check_versions, check_runs, check_flows)
