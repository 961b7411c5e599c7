"""Marks flow runs as crashed whose process is gone while Prefect still lists them as running.

A killed flow cannot report its end. Each flow run is tagged with the name of its process; every command that runs a
flow checks these tags first, and so does `osteo doctor`: `python -m pipelines.reconcile [--dry-run]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

import click
from prefect import Flow, get_client, tags
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.states import Crashed

from osteo_models.core.processes import is_gone, name_process
from osteo_models.core.settings import load_settings
from pipelines.server import use_server

PREFIX: Final = "process:"
UNFINISHED: Final = [StateType.RUNNING.value, StateType.PENDING.value, StateType.CANCELLING.value]
PAGE: Final = 200  # Prefect's own limit
FRESH: Final = {
    "timeout": 10.0
}  # settings of its own make a client of its own: a flow's may be in use when it is stopped
Found = TypeVar("Found")


@dataclass(frozen=True)
class Lost:
    """A flow run without a process."""

    id: str
    flow: str
    state: str
    process: str


@contextmanager
def tag_owner() -> Iterator[None]:
    """Tag the flow runs that begin in this context with the name of this process."""
    with tags(f"{PREFIX}{name_process()}"):
        yield


def tag_flow_run(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Tag a flow run with the name of this process: the hook of a flow that has deployments.

    The server makes the runs of deployments before they have a process, and another process may have had the run.
    """
    own = f"{PREFIX}{name_process()}"
    if own not in flow_run.tags:
        others = [tag for tag in flow_run.tags if not tag.startswith(PREFIX)]
        with get_client(FRESH, sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=[*others, own])


def find_lost(ended: Container[str] = ()) -> list[Lost]:
    """The flow runs that Prefect calls unfinished and whose process, on this host, is gone.

    Args:
        ended: Processes that count as gone.
    """
    found: list[Lost] = []
    for run in _read_unfinished():
        for process in _list_processes(run):
            if process in ended or is_gone(process):
                state = (run.state.name if run.state else None) or ""
                found.append(Lost(str(run.id), run.name, state, process))
    return found


def mark_crashed(lost: Lost, why: str) -> None:
    """Set a flow run, and its tasks that are under way, to Crashed."""
    state = Crashed(message=why)
    with get_client(FRESH, sync_client=True) as client:
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[lost.id]))  # pyright: ignore[reportArgumentType]
        running = TaskRunFilter.model_validate({"state": {"type": {"any_": UNFINISHED}}})
        given = {"flow_run_filter": of_run, "task_run_filter": running, "sort": TaskRunSort.ID_DESC}
        for task in list(_read_pages(client.read_task_runs, **given)):  # all of them, before a state changes
            client.set_task_run_state(task.id, state, force=True)
        client.set_flow_run_state(lost.id, state, force=True)


def reconcile() -> list[Lost]:
    """Mark every lost flow run as crashed; returns them."""
    lost = find_lost()
    for each in lost:
        mark_crashed(each, f"its process {each.process} is gone; the same command goes on where it was")
    return lost


def _read_unfinished() -> Iterator[FlowRun]:
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": UNFINISHED}}})
    with get_client(FRESH, sync_client=True) as client:
        yield from _read_pages(client.read_flow_runs, flow_run_filter=unfinished, sort=FlowRunSort.ID_DESC)


def _read_pages(read: Callable[..., list[Found]], **given: Any) -> Iterator[Found]:
    """Everything that a call of Prefect's client lists."""
    offset = 0
    while page := read(**given, limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _list_processes(run: FlowRun) -> list[str]:
    return [tag.removeprefix(PREFIX) for tag in run.tags if tag.startswith(PREFIX)]


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be marked, and mark nothing.")
def command(dry_run: bool) -> None:
    """Print the flow runs without a process, and the processes of the others, as JSON; mark the former as crashed."""
    with use_server(load_settings()):
        lost = find_lost() if dry_run else reconcile()
        found = {process for run in _read_unfinished() for process in _list_processes(run)}
    living = sorted(found - {each.process for each in lost})
    click.echo(json.dumps({"lost": [asdict(each) for each in lost], "living": living}))


if __name__ == "__main__":
    command()
