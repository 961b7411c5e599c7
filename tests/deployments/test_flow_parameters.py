"""Prefect stores the parameters of flow runs: settings, whose addresses may hold passwords, are none of them."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from prefect import Flow

from osteo_models.core.errors import OsteoError
from osteo_models.core.settings import load_settings
from osteo_models.registry.run_context import RunContext
from tests.conftest import ROOT

SECRET = "only-for-this-test"
ADDRESS = f"postgresql://osteo:{SECRET}@127.0.0.1:1/osteo"
PLAIN = {"str", "bool", "list[str]", "Path", "KnownModality | None", "Stage"}
STAGES = ("cohort", "splits", "evaluate", "explain", "register", "report")


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(ROOT)
        warnings.simplefilter("ignore")  # importing both, Prefect's tables have MLflow's made too, which are outdated
        names = sorted(path.stem for path in (ROOT / "pipelines").glob("[a-z]*.py"))
        return {name: importlib.import_module(f"pipelines.{name}") for name in names}


def test_flows_take_plain_values_alone(modules: dict[str, ModuleType]) -> None:
    flows = {
        f"{name}.{found.fn.__name__}": found
        for name, module in modules.items()
        for found in vars(module).values()
        if isinstance(found, Flow)
    }
    assert {f"{name}.{name}" for name in STAGES} < set(flows)
    del flows["experiments.train"]  # of the next test
    taken = {
        f"{name}({parameter.name})": str(parameter.annotation)
        for name, found in flows.items()
        for parameter in inspect.signature(found.fn).parameters.values()
    }
    assert {name: kind for name, kind in taken.items() if kind not in PLAIN} == {}


def test_what_the_jobs_share_is_stored_by_its_name(modules: dict[str, ModuleType], monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    experiments = modules["experiments"]
    run = experiments.ExperimentRun.__new__(experiments.ExperimentRun)
    run.context, run._lock = RunContext(load_settings(tmp_path)), threading.Lock()
    stored = experiments.train.serialize_parameters({"jobs": [], "run": run})
    assert stored == {"jobs": [], "run": "<ExperimentRun>"}


def test_a_search_is_a_flow_that_takes_nothing(modules: dict[str, ModuleType], monkeypatch) -> None:
    made: list[tuple[str, int]] = []

    def make(name: str) -> Callable[[Callable[[], dict]], Callable[[], dict]]:
        return lambda steps: (made.append((name, len(inspect.signature(steps).parameters))), steps)[1]

    monkeypatch.setattr(modules["search"], "flow", make)
    monkeypatch.setattr(modules["search"], "explore", lambda search: [])
    search = SimpleNamespace(run_id="run", context=SimpleNamespace(tracking=Mock()))
    with pytest.raises(OsteoError, match="no candidate was finished"):
        modules["search"].run(search)
    assert made == [("search", 0)]
    search.context.tracking.fail_run.assert_called_once_with("run", "search: no candidate was finished")


@pytest.mark.slow
def test_a_password_is_in_nothing_that_prefect_stores(tmp_path: Path) -> None:
    """The stage fails, for the database does not answer; what it was called with is stored before that."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    names = ("MLFLOW_TRACKING_URI", "OSTEO_JOURNAL_URI", "OSTEO_SEARCH_STORAGE")
    others = ("PREFECT_", "OSTEO_", "MLFLOW_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment = {**kept, **dict.fromkeys(names, ADDRESS), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.register"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    stored = list((tmp_path / ".osteo" / "prefect").rglob("prefect.db*"))
    assert stored and any(b"register" in path.read_bytes() for path in stored)
    found = [
        path for path in (tmp_path / ".osteo").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert found == []
