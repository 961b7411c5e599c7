"""The commands of the gate and the journal, as a person types them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.settings import load_settings
from osteo_models.registry.journal_events import read_author
from osteo_models.registry.registration import register_version
from osteo_models.registry.tracking import open_tracking
from osteo_models.registry.versions import set_alias
from tests.conftest import ROOT
from tests.registry.conftest import RECORD, TAGS, stage_metrics

NAME = "osteo-unimodal-mri"


@pytest.fixture
def osteo(tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch, make_job, make_model):
    """Run a command in a project with three versions, of which the second is the best and the last the worst."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTEO_USER", "A. Keeper")
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_JOURNAL_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".osteo").mkdir()
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["gate"] = [{"rule": "minimum", "stages": ["stage-1"], "metric": "balanced_accuracy", "value": 0.7}]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    settings = load_settings()
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    for value in (0.8, 0.9, 0.6):
        job = make_job()
        folder = make_model(job.key, seed=int(job.key, 16))
        run = tracking.begin_job(job)
        register_version(
            tracking, model_folder=folder, metrics=stage_metrics(1, value), tags=TAGS, files=RECORD, run_id=run
        )

    def run_it(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.output

    run_it.tracking = tracking
    return run_it


def test_a_session(osteo) -> None:
    assert "nothing is wrong" in osteo("doctor")
    osteo("history", NAME, code=2)
    assert f"{NAME} version 1 would become champion" in osteo("promote", NAME, "1", "--dry-run")
    assert f"{NAME} version 1 is now champion" in osteo("promote", NAME, "1")
    assert f"{NAME} version 1 is already champion" in osteo("promote", NAME, "1")
    assert json.loads(osteo("promote", NAME, "2", "--json"))["replaced"] == 1
    refused = osteo("promote", NAME, code=3)
    assert "FAIL minimum balanced_accuracy (stage-1): stage-1 0.600 [0.550, 0.640]; needed" in refused
    assert "error: osteo-unimodal-mri version 3: REJECT: minimum" in refused

    without = osteo("promote", NAME, "--waive", "minimum", code=2)
    assert "--waive: rule 'minimum' waived without --reason" in without
    waived = osteo("promote", NAME, "--waive", "minimum", "--reason", "pilot", "--by", "B. Head")
    assert "WAIV minimum" in waived and "version 3 is now champion" in waived
    assert "version 2 is champion again, in place of version 3" in osteo("rollback", NAME, "--reason", "worse")
    assert json.loads(osteo("rollback", NAME, "--json")) == {"name": NAME, "version": 1, "replaced": 2}
    assert "no champion before this one" in osteo("rollback", NAME, code=2)

    lines = [line.partition("A. Keeper: ")[2] for line in osteo("history", NAME).splitlines()[1:]]
    assert lines == [
        "promoted version 1",
        "promoted version 2 in place of version 1",
        "refused version 3 (minimum balanced_accuracy (stage-1))",
        "waived for version 3: minimum balanced_accuracy (stage-1): pilot (B. Head)",
        "promoted version 3 in place of version 2",
        "rolled back from version 3 to version 2 (worse)",
        "rolled back from version 2 to version 1",
    ]
    events = json.loads(osteo("history", NAME, "--json"))
    assert [each["action"] for each in events["events"]][2:4] == ["refusal", "waiver"]
    assert (events["champion"], events["faults"]) == (1, [])


def test_what_the_doctor_finds(osteo, tmp_path: Path) -> None:
    osteo("promote", NAME, "1")
    set_alias(osteo.tracking, NAME, "champion", 3)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE osteo_events SET who = 'B. Other'")
    database.close()
    found = osteo("doctor", code=1).splitlines()
    assert found[0].startswith(f"journal of {NAME}: event 1 was altered; restore")
    assert found[1].startswith(f"{NAME}: alias champion is version 3, the journal says version 1; `osteo promote")
    assert [each["where"] for each in json.loads(osteo("doctor", "--json", code=1))] == [f"journal of {NAME}", NAME]
    assert "ALTERED: event 1 was altered" in osteo("history", NAME, code=1)


def test_a_tracking_server_needs_a_journal_of_its_own(osteo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    said = osteo("history", NAME, code=1)
    assert "beside a tracking server set OSTEO_JOURNAL_URI, best to the server's own database" in said


def test_who_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OSTEO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: "login")
    settings = load_settings(tmp_path)
    assert read_author(settings).who == "login"
    for command in (["init", "-q"], ["config", "user.name", "G. Committer"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert (read_author(settings).who, read_author(settings).commit) == ("G. Committer", "")
    monkeypatch.setenv("OSTEO_USER", "A. Keeper")
    assert read_author(load_settings(tmp_path)).who == "A. Keeper"


@pytest.mark.slow
def test_the_flow_judges_every_challenger(osteo, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OSTEO_USER": "A. Keeper"}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    command = [sys.executable, "-m", "pipelines.promote"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert f"{NAME} version 3: REJECT: minimum balanced_accuracy (stage-1)" in done.stdout
    assert f"1 refused: {NAME}" in done.stderr
    assert "refused version 3" in osteo("history", NAME)
