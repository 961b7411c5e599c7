"""PostgreSQL under many processes: one store made by eight at once, and 32 that write to it side by side."""

from __future__ import annotations

import multiprocessing
import sys
import time
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

from osteo_models.servers.postgresql import database_url

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    from mlflow.entities import Metric

    from osteo_models.registry.tracking import JobRun, open_tracking

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]
STARTERS, ROUNDS, WRITERS = 8, 3, 32
METRICS, EPOCHS = 8, 20
PAUSE_SECONDS = 1.0  # a fast epoch: STACK measured one of 1,013 images at 1.3 s and more
SLOWEST_SECONDS = 0.5


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
    failed = [each for each in found if isinstance(each, str)]
    assert not failed, "\n".join(failed)
    return found


def _work(work: Callable[..., Any], number: int, barrier: Any, answers: Any, *given: Any) -> None:
    try:
        answers.put(work(number, barrier, *given))
    except Exception:  # noqa: BLE001  # the parent shows it
        answers.put(traceback.format_exc())


def start_cold(number: int, barrier: Any, uri: str, folder: Path) -> tuple[str, float]:
    barrier.wait()
    started = time.monotonic()
    job = JobRun("c0", "stage-1", "unimodal-mri-patient", {"a": 1}, {}, "cohort", "e" * 32, "data.dvc", 10)
    return open_tracking(uri, folder).begin_job(job), time.monotonic() - started


def test_eight_processes_make_one_store_and_one_run(make_database: Callable[[], str], tmp_path: Path) -> None:
    slowest = list[float]()
    for _ in range(ROUNDS):
        database = make_database()
        found = run_all(STARTERS, start_cold, database, tmp_path)
        assert len({run for run, _ in found}) == 1
        with create_engine(database, poolclass=NullPool).connect() as connection:
            runs = connection.execute(text("SELECT run_uuid FROM runs")).scalars()
            assert list(runs) == [found[0][0]]  # nobody made another, to delete it again
        slowest.append(max(seconds for _, seconds in found))
    sys.stdout.write(f"\n{ROUNDS} times {STARTERS} cold starts: 0 failures, slowest {max(slowest):.1f} s\n")


def write_epochs(number: int, barrier: Any, uri: str, folder: Path) -> list[float]:
    """One write: the eight metrics of an epoch, as one batch, committed."""
    tracking = open_tracking(uri, folder)
    job = JobRun(f"w{number}", "stage-1", "unimodal-mri-patient", {}, {}, "cohort", "e" * 32, "data.dvc", 10)
    run, rng = tracking.begin_job(job), np.random.default_rng(number)
    barrier.wait()
    time.sleep(rng.uniform(0, PAUSE_SECONDS))  # trials are not in step
    seconds = list[float]()
    for epoch in range(1, EPOCHS + 1):
        points = [Metric(f"metric_{each}", rng.random(), 1, epoch) for each in range(METRICS)]
        started = time.monotonic()
        with tracking.writing():
            tracking.log_points(run, points)
        seconds.append(time.monotonic() - started)
        time.sleep(max(0.0, PAUSE_SECONDS - seconds[-1]))
    return seconds


def test_thirty_two_writers(make_database: Callable[[], str], tmp_path: Path) -> None:
    database = make_database()
    run_all(1, start_cold, database, tmp_path)
    found = run_all(WRITERS, write_epochs, database, tmp_path)
    seconds = np.concatenate(found)
    with create_engine(database, poolclass=NullPool).connect() as connection:
        points = connection.execute(text("SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics")).one()
    assert tuple(points) == (WRITERS * EPOCHS * METRICS,) * 2
    median, late = np.quantile(seconds, [0.5, 0.99])
    sys.stdout.write(f"\n{len(seconds)} writes of {WRITERS}: 0 failures, median {median:.3f} s, p99 {late:.3f} s\n")
    assert late <= SLOWEST_SECONDS
