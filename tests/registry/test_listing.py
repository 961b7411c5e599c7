"""Listings do not stop at the first page."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from osteo_models.registry import runs
from osteo_models.registry.retention import list_experiments, read_runs
from osteo_models.registry.runs import JOB_TAG, PROCESS_TAG, find_orphans, find_running, list_all
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import list_aliases, list_versions

RUNNING = 2300
GONE = f"{platform.node()}:1:12.00"


@pytest.fixture
def store(tmp_path: Path, fresh_store: Path) -> Tracking:
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    return open_tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts")


def _copy_run(file: Path, run_id: str, count: int) -> None:
    """Put copies of a run and its tags into the database, without MLflow, which takes a second for fifty."""
    with closing(sqlite3.connect(file)) as database, database:
        for table, key in (("runs", "run_uuid"), ("tags", "run_uuid")):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != key]
            names = ", ".join(columns)
            database.executemany(
                f"INSERT INTO {table} ({key}, {names}) SELECT ?, {names} FROM {table} WHERE {key} = ?",
                [(f"{number:032x}", run_id) for number in range(count)],
            )


def test_more_than_two_thousand_running_runs_are_all_found(store: Tracking, tmp_path: Path, make_job) -> None:
    job = make_job()
    run_id = store.begin_job(job)
    store.client.set_tag(run_id, PROCESS_TAG, GONE)
    _copy_run(tmp_path / "mlflow.db", run_id, RUNNING - 1)
    wanted = {run_id, *(f"{number:032x}" for number in range(RUNNING - 1))}
    assert {run.run_id for run in find_running(store)} == wanted
    assert {run.run_id for run in find_orphans(store)} == wanted
    assert set(read_runs(store).by_id) == wanted
    experiment = store.client.get_run(run_id).info.experiment_id
    assert {run.info.run_id for run in store.find_runs([experiment], {JOB_TAG: job.key})} == wanted


def test_small_pages_give_everything_once(
    store: Tracking, make_job, make_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGE", 2)
    begun = [store.begin_job(make_job(stage=f"stage-{number}")) for number in (1, 2, 3, 4, 5)]
    assert len(store.list_experiments()) == 5 and len(list(list_experiments(store))) == 6  # MLflow's own among them
    assert sorted(run.run_id for run in find_running(store)) == sorted(begun)
    for number in range(3):
        name = f"osteo-{number}"
        store.client.create_registered_model(name)
        for _ in range(5):
            store.client.create_model_version(name, "file:///nowhere")
        store.client.set_registered_model_alias(name, "champion", "3")
    assert [(each.name, each.version) for each in list_versions(store)] == [
        (f"osteo-{number}", version) for number in range(3) for version in (5, 4, 3, 2, 1)
    ]
    assert list_aliases(store, "champion") == {f"osteo-{number}": 3 for number in range(3)}
    experiment = store.find_experiment("osteo/stage-1")
    models = {store.client.create_logged_model(experiment, f"m-{number}").model_id for number in range(7)}
    found = [model.model_id for model in list_all(store.client.search_logged_models, [experiment])]
    assert len(found) == 7 and set(found) == models
