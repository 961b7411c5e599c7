"""PostgreSQL under many processes: one store made by eight at once, and 32 that write to it side by side."""

from __future__ import annotations

import multiprocessing
import traceback
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from osteo_models.ops.servers.postgresql import database_url

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    from mlflow.entities import Metric

    from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import open_tracking

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]
STARTERS, ROUNDS, WRITERS = 8, 3, 32
METRICS, EPOCHS = 8, 20


@pytest.fixture
def make_database(site, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes empty databases that nobody has opened yet."""
    monkeypatch.setenv("PGPASSFILE", site.variables["PGPASSFILE"])
    port = int(site.variables["OSTEO_JOURNAL_URI"].rpartition(":")[2].partition("/")[0])
    superuser = create_engine(
        database_url("psycopg", "postgres", port), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with superuser.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" OWNER mlflow'))
        return database_url("psycopg", "mlflow", port).removesuffix("mlflow") + name

    return make


def run_all(number: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Let processes work from the same moment on; what they give, in any order."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(number), context.Queue()
    processes = [context.Process(target=_work, args=(work, each, barrier, answers, *given)) for each in range(number)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    failed = [error for _, error in found if error]
    assert not failed, "\n".join(failed)
    return [result for result, _ in found]


def _work(work: Callable[..., Any], number: int, barrier: Any, answers: Any, *given: Any) -> None:
    try:
        answers.put((work(number, barrier, *given), ""))
    except Exception:  # noqa: BLE001  # the parent shows it
        answers.put((None, traceback.format_exc()))


def start_cold(number: int, barrier: Any, uri: str, folder: Path) -> str:
    barrier.wait()
    job = JobRun("c0", "stage-1", "unimodal-mri-patient", {"a": 1}, {}, "cohort", "e" * 32, "data.dvc", 10)
    return open_tracking(uri, folder).begin_job(job)


def test_eight_processes_make_one_store_and_one_run(make_database: Callable[[], str], tmp_path: Path) -> None:
    for _ in range(ROUNDS):
        database = make_database()
        found = run_all(STARTERS, start_cold, database, tmp_path)
        assert len(set(found)) == 1
        with create_engine(database, poolclass=NullPool).connect() as connection:
            runs = connection.execute(text("SELECT run_uuid FROM runs")).scalars()
            assert list(runs) == found[:1]  # no writer made another run and deleted it again


def write_epochs(number: int, barrier: Any, uri: str, folder: Path) -> None:
    """The metrics of one epoch after another, each epoch as one batch, without a pause."""
    tracking = open_tracking(uri, folder)
    job = JobRun(f"w{number}", "stage-1", "unimodal-mri-patient", {}, {}, "cohort", "e" * 32, "data.dvc", 10)
    run, rng = tracking.begin_job(job), np.random.default_rng(number)
    barrier.wait()
    for epoch in range(1, EPOCHS + 1):
        points = [Metric(f"metric_{each}", rng.random(), 1, epoch) for each in range(METRICS)]
        with tracking.writing():
            tracking.log_points(run, points)


def test_thirty_two_writers(make_database: Callable[[], str], tmp_path: Path) -> None:
    database = make_database()
    run_all(1, start_cold, database, tmp_path)
    run_all(WRITERS, write_epochs, database, tmp_path)
    with create_engine(database, poolclass=NullPool).connect() as connection:
        points = connection.execute(text("SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics")).one()
    assert tuple(points) == (WRITERS * EPOCHS * METRICS,) * 2
