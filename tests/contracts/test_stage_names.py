"""Stages are rows of params.yaml: no code names one, and DVC reads metrics and plots of whatever stages there are."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation import evaluate_predictions
from tests.conftest import ROOT, STAGES

STUDY = runpy.run_path(str(ROOT / "tests" / "evaluation" / "conftest.py"))
NAMED = re.compile(r"stage[-_][0-9]")
TEXT = {".py", ".j2", ".csv", ".css", ".js", ".yaml", ".yml", ".toml", ".json"}


def test_no_code_and_no_graph_names_a_stage():
    files = [path for folder in ("osteo_models", "pipelines", "infra") for path in (ROOT / folder).rglob("*")]
    files = [path for path in files if path.suffix in TEXT] + [ROOT / "dvc.yaml", ROOT / "Makefile", ROOT / "README.md"]
    assert len(files) > 200
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if NAMED.search(line)
    ]
    assert found == []


def test_params_yaml_names_stages_under_stages_alone():
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    top = {number: line.partition(":")[0] for number, line in enumerate(lines) if line[:1].isalpha()}
    named = [number for number, line in enumerate(lines) if NAMED.search(line)]
    assert {top[max(start for start in top if start <= number)] for number in named} == {"stages"}


@pytest.fixture
def repository(tmp_path_factory):
    """A DVC repository with the project's metrics and plots, in which a stage more was evaluated than it has."""
    tmp_path = tmp_path_factory.mktemp("repository")
    stages = StageTable((*STAGES.rows, replace(STAGES.rows[0], name="stage-8", paper_table=None)))
    artifacts, images = tmp_path / "artifacts", STUDY["make_images"](0.1)
    for stage in ("stage-1", "stage-8"):
        path = STUDY["write_job"](artifacts, stage, "unimodal", "mri", "patient", images, 2.0, stages=stages)
        curve = artifacts / "curves" / stage / f"{path.stem}.csv"
        curve.parent.mkdir(parents=True)
        curve.write_text("fold,epoch,test_balanced_accuracy\n0,1,0.6\n0,2,0.7\n", encoding="utf-8")
    evaluate_predictions(artifacts, stages)
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    evaluate = {name: graph["stages"]["evaluate"][name] for name in ("outs", "metrics")} | {"cmd": "true"}
    plots = [plot for plot in graph["plots"] if "artifacts/plots" in json.dumps(plot)]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": evaluate}, "plots": plots}))
    _run(tmp_path, "git", "init", "-q")
    _run(tmp_path, sys.executable, "-m", "dvc", "init", "-q")
    _run(tmp_path, sys.executable, "-m", "dvc", "commit", "-q", "--force")
    shutil.copyfile(ROOT / ".gitignore", tmp_path / ".gitignore")
    _run(tmp_path, "git", "add", ".")
    _run(tmp_path, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all")
    return tmp_path


def _run(root: Path, *command: str) -> str:
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def test_a_clone_without_a_remote_shows_metrics_and_plots_of_a_stage_that_the_graph_does_not_name(repository, tmp_path):
    clone = tmp_path / "clone"  # of git alone: there is no remote to pull from
    _run(tmp_path, "git", "clone", "-q", str(repository), str(clone))
    file = "artifacts/metrics/evaluation.json"
    shown = json.loads(_run(clone, sys.executable, "-m", "dvc", "metrics", "show", "--json"))[""]["data"]
    headline = shown[file]["data"]
    assert list(headline) == ["stage-1", "stage-8"]
    headline["stage-8"]["mri"]["balanced_accuracy"] = 0.25
    (clone / file).write_text(json.dumps(headline), encoding="utf-8")
    changes = json.loads(_run(clone, sys.executable, "-m", "dvc", "metrics", "diff", "--json"))
    assert changes[file]["stage-8.mri.balanced_accuracy"]["new"] == 0.25
    _run(clone, sys.executable, "-m", "dvc", "plots", "show", "--out", "plots")
    page = (clone / "plots" / "index.html").read_text(encoding="utf-8")
    assert all(f"{folder}/stage-8-mri.csv" in page for folder in ("roc", "learning"))
