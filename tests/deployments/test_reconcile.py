"""Lost flow runs and their tasks, more of them than one answer of a real Prefect server holds."""

from __future__ import annotations

import warnings

import pytest
from prefect import flow, get_client, task
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from pipelines import reconcile

GONE = "process:nowhere:1:12.00"
RUNS, TASKS = 5, 7


@task
def work() -> None:
    """Never run."""


@flow
def stage() -> None:
    """Never run."""


@pytest.mark.slow
def test_all_of_them_are_marked_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "PAGE", 2)
    monkeypatch.setattr(reconcile, "is_gone", lambda process: f"{reconcile.PREFIX}{process}" == GONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
            runs = [client.create_flow_run(stage, state=Running(), tags=[GONE]).id for _ in range(RUNS)]
            tasks = [client.create_task_run(work, runs[0], str(key), state=Running()).id for key in range(TASKS)]
            assert {lost.id for lost in reconcile.find_lost()} == set(map(str, runs))
            assert len(reconcile.reconcile()) == RUNS
            for run in runs:
                assert client.read_flow_run(run).state_name == "Crashed"
            assert {client.read_task_run(each).state_name for each in tasks} == {"Crashed"}
