"""The store is made once, whoever comes first, and says what is wrong with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.telemetry import get_telemetry_client

from osteo_models.core.errors import StoreError
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import open_tracking

STARTERS = 8


def _start_cold(folder: Path, barrier, answers) -> None:
    barrier.wait()
    try:
        tracking = open_tracking(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts")
        job = JobRun("c0", "stage-1", "unimodal-mri-patient", {"a": 1}, {}, "cohort", "e" * 32, "data.dvc", 10)
        answers.put(tracking.begin_job(job))
    except Exception as error:  # noqa: BLE001  # the parent shows it
        answers.put(repr(error))


def test_eight_processes_on_an_empty_folder_make_one_store_and_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(STARTERS), context.Queue()
    processes = [
        context.Process(target=_start_cold, args=(tmp_path / "new", barrier, answers)) for _ in range(STARTERS)
    ]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1, found
    with closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as connection:
        runs = connection.execute("SELECT run_uuid FROM runs").fetchall()
    assert [run for (run,) in runs] == list(found)  # nobody made another, to delete it again


def test_nothing_is_sent_and_no_pickle_is_loaded(tracking) -> None:
    assert get_telemetry_client() is None
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("mlruns", "'mlruns' is no MLflow store"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns' is no MLflow store"),
        ("sqlite://", "a store in memory is lost"),
        ("sqlite:///:memory:", "a store in memory is lost"),
    ],
)
def test_addresses_that_cannot_keep_runs(uri: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=found) as caught:
        open_tracking(uri, tmp_path)
    assert "sqlite:///FILE" in str(caught.value)


@pytest.mark.timeout(60)  # MLflow alone would try again for minutes
def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=r"mlflow\.db: not a usable SQLite database .*; move the file away"):
        open_tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes().startswith(b"not a database")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match="state"):
        open_tracking(f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}", tmp_path)


def test_a_store_of_another_release(tmp_path: Path, fresh_store: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    connection.close()
    with pytest.raises(
        StoreError, match="another MLflow release; copy the database, then run `mlflow db upgrade sqlite"
    ):
        open_tracking(uri, tmp_path)


@pytest.mark.timeout(60)  # MLflow alone would try again for minutes
def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreError, match=r"no MLflow server answers .*osteo up"):
            open_tracking(uri, Path("unused"))


@pytest.mark.parametrize("uri", ["http://somebody:hidden@127.0.0.1:9", "ftp://somebody:hidden@127.0.0.1:9"])
def test_an_address_is_told_without_its_password(tmp_path, uri) -> None:
    with pytest.raises(StoreError, match=r"somebody:\*\*\*@127\.0\.0\.1:9") as told:
        open_tracking(uri, tmp_path).find_job("0")
    assert "hidden" not in str(told.value)
