"""A database of MLflow is whole, or there is none: also where whoever makes it is killed."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from osteo_models.registry import embedded_store
from osteo_models.registry.embedded_store import make_embedded
from osteo_models.registry.tracking import open_tracking

TABLES = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"


def count_tables(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(TABLES).fetchone()[0]


def kill_amid_making(file: Path) -> None:
    """Kill what makes a database when it has some of its tables."""
    process = multiprocessing.get_context("fork").Process(target=make_embedded, args=(file, "file:///nowhere"))
    process.start()
    deadline = time.monotonic() + 60
    while not any(count_tables(new) > 5 for new in file.parent.glob(f".{file.name}.*.new")):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()


def test_killed_while_the_store_is_made_it_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    kill_amid_making(file)
    assert not file.exists()
    assert open_tracking(f"sqlite:///{file}", tmp_path / "mlartifacts").find_job("0") is None
    assert sorted(path.name for path in tmp_path.iterdir() if "lock" not in path.name) == ["mlflow.db"]


def test_tables_of_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE osteo_events (number INTEGER)")
        connection.execute("INSERT INTO osteo_events VALUES (7)")
    kill_amid_making(file)
    assert count_tables(file) == 1
    open_tracking(f"sqlite:///{file}", tmp_path / "mlartifacts")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT number FROM osteo_events").fetchall() == [(7,)]
        assert connection.execute("SELECT count(*) FROM experiments").fetchall() == [(1,)]


def test_the_server_finds_its_store_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, served = tmp_path / "mlflow.db", []

    def serve(arguments: list[str]) -> None:
        with closing(sqlite3.connect(file)) as connection:
            served.append((arguments, connection.execute("SELECT artifact_location FROM experiments").fetchall()))

    monkeypatch.setattr("mlflow.cli.cli", serve)
    file.touch()  # as a connection leaves it that writes nothing
    embedded_store.main(str(file), str(tmp_path / "mlartifacts"), "--port", "1")
    embedded_store.main(str(file), str(tmp_path / "mlartifacts"), "--port", "1")
    place = f"file://{tmp_path / 'mlartifacts'}"
    arguments = ["server", "--backend-store-uri", f"sqlite:///{file}", "--artifacts-destination", place, "--port", "1"]
    assert served == [(arguments, [("mlflow-artifacts:/0",)])] * 2
