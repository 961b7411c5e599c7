"""Runs without a process are found and ended, and doctor says so; those at work are left alone."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.processes import is_gone, name_process
from osteo_models.core.settings import load_settings
from osteo_models.ops.doctor import Project, store_checks
from osteo_models.registry.runs import JOB_TAG, PROCESS_TAG, end_orphans, find_orphans
from osteo_models.registry.tracking import open_tracking


def test_processes_are_told_by_host_number_and_start() -> None:
    assert not is_gone(name_process())
    assert is_gone(f"{platform.node()}:1:12.00")
    assert not is_gone("another-host:1:12.00")  # nobody here can say


@pytest.fixture
def here(tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch):
    """A project whose store is empty, and a function that runs `osteo` in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "RAY_ADDRESS", "OSTEO_JOURNAL_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OSTEO_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / ".osteo").mkdir()
    (tmp_path / "mlflow.db").write_bytes(fresh_store.read_bytes())
    return tmp_path


def osteo(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_a_run_whose_process_is_gone(here, make_job, fold) -> None:
    settings = load_settings()
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    living, lost, finished = (tracking.begin_job(make_job()) for _ in range(3))
    tracking.finish_run(finished, {})
    assert find_orphans(tracking) == [] and "nothing is wrong" in osteo("doctor")
    assert {each.run_id for each in find_orphans(tracking, ended={name_process()})} == {living, lost}

    tracking.client.set_tag(lost, PROCESS_TAG, f"{platform.node()}:1:12.00")
    said = osteo("doctor", code=1)
    expected = f"run {lost} (unimodal-mri-patient): MLflow says RUNNING, and process {platform.node()}:1:12.00 is gone"
    assert said == f"{expected}; `osteo doctor --fix` marks it, and the same command goes on with it\n"
    (found,) = json.loads(osteo("doctor", "--json", code=1))
    assert found["where"].startswith(f"run {lost}") and found["fixable"] is True
    assert osteo("doctor", "--fix") == f"fixed: run {lost} (unimodal-mri-patient): marked as KILLED\n"
    assert tracking.client.get_run(lost).info.status == "KILLED"
    assert tracking.client.get_run(living).info.status == "RUNNING"
    assert json.loads(osteo("doctor", "--fix", "--json")) == {"done": [], "findings": []}
    end_orphans(tracking, find_orphans(tracking, ended={name_process()}))
    assert tracking.client.get_run(living).info.status == "KILLED"


def test_a_run_that_a_process_took_up_since_the_check_is_not_marked(here, make_job) -> None:
    settings = load_settings()
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    run = tracking.begin_job(make_job())
    tracking.client.set_tag(run, PROCESS_TAG, f"{platform.node()}:1:12.00")
    (found,) = store_checks.check_runs(Project(settings, None, tracking, None))
    tracking.begin_job(make_job(key=tracking.client.get_run(run).data.tags[JOB_TAG]))
    assert found.fix() == "a process works on it by now"
    assert tracking.client.get_run(run).info.status == "RUNNING"


def test_a_store_that_cannot_be_opened_is_one_finding_among_others(here, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    lines = osteo("doctor", code=1).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("http://127.0.0.1:9: no MLflow server answers") and "`osteo up`" in lines[0]
    assert lines[1].startswith("RAY_ADDRESS=127.0.0.1:9: nothing answers there")
