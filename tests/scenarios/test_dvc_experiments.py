"""DVC experiments, in the workspace, in a temporary copy and queued, share the stores and results of their project."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def query(project, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(project.root / "mlflow.db")) as database:
        return database.execute(statement).fetchall()


def list_experiments(project) -> dict[str, dict]:
    """The metrics of each experiment of HEAD, by its name."""
    table = json.loads(project.dvc("exp", "show", "--json", "--num", "1"))
    experiments = next(row for row in table if row["rev"] != "workspace")["experiments"] or []
    return {row["revs"][0]["name"]: row["revs"][0]["data"]["metrics"] for row in experiments}


def test_experiments_share_the_state_of_their_project(project):
    project.osteo("demo")
    project.git("add", "-A")
    project.git("commit", "-qm", "first results")
    jobs = query(project, "select count(*) from tags where key = 'osteo.job'")

    # A threshold retrains nothing: a temporary copy finds the results of the project.
    project.dvc("exp", "run", "--temp", "-n", "strict", "-S", "evaluate.threshold=0.6")
    assert query(project, "select count(*) from tags where key = 'osteo.job'") == jobs
    assert project.git("status", "--porcelain") == ""

    # Two at once, from the queue; each trains.
    for rate in (0.002, 0.003):
        name = f"rate-{1000 * rate:.0f}"
        project.dvc("exp", "run", "--queue", "-n", name, "-S", f"experiments.learning_rate={rate}")
    project.dvc("queue", "start", "-j", "2")
    project.dvc("queue", "logs", "rate-2", "--follow")
    project.dvc("queue", "logs", "rate-3", "--follow")
    experiments = list_experiments(project)
    assert set(experiments) == {"strict", "rate-2", "rate-3"}
    for files in experiments.values():
        assert set(files) == {f"artifacts/metrics/{name}.json" for name in ("splits", "search", "evaluation")}
    named = {name for (name,) in query(project, "select distinct value from tags where key = 'dvc.exp.name'")}
    assert named == {"rate-2", "rate-3"}

    versions = query(project, "select count(*) from model_versions")
    project.dvc("exp", "apply", "rate-2")
    applied = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    assert applied["experiments"]["learning_rate"] == 0.002
    assert "Running stage" not in project.dvc("repro")
    project.git("commit", "-qam", "the rate of the experiment")
    registered = json.loads((project.root / "artifacts" / "register.json").read_text(encoding="utf-8"))
    (version,) = (str(entry["version"]) for entry in registered if entry["name"] == "osteo-unimodal-mri")
    verdict = project.osteo("promote", "osteo-unimodal-mri", version, "--dry-run")
    assert "code_pinned" in verdict
    project.dvc("exp", "remove", "strict", "rate-3")
    assert query(project, "select count(*) from model_versions") == versions
