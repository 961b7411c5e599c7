"""A project of its own: the code as it stands, the small cohort, one epoch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

CODE = ("osteo_models", "pipelines", "dvc.yaml", ".dvcignore", ".dvc/config", ".gitignore", "prefect.toml")


@dataclass(frozen=True)
class Project:
    """A folder in which `osteo` is run as its user runs it."""

    root: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `osteo`, or a module after `-m`, in a process group of its own."""
        first = [] if arguments[0] == "-m" else ["-c", "from osteo_models.cli.main import main; main()"]
        return subprocess.Popen(
            [sys.executable, *first, *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def osteo(self, *arguments: str, code: int = 0) -> str:
        """Run `osteo` to its end and give what it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output

    def dvc(self, *arguments: str) -> str:
        """Run a DVC command and give what it printed."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        """Run a git command and give what it printed."""
        return self.run("git", *arguments)

    def run(self, *command: str) -> str:
        """Run any command in the project and give what it printed."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def shrink(params: dict) -> dict:
    """Test sets for the small cohort, two folds, one epoch."""
    params["data"]["synthetic"]["scale"] = "small"
    params["profiles"]["quick"]["epochs"] = 1
    params["splits"]["folds"] = 2
    params["profiles"]["quick"]["image_protocol"] = ["unimodal"]
    params["stages"]["stage-5"]["images"] = ["mri", "multimodal"]
    params["search"]["budgets"]["quick"] |= {"candidates": 3, "folds": 2, "epochs": 1}
    for modality in ("mri", "ct"):
        params["splits"]["holdout"][modality]["images_per_class"] = 8
        params["splits"]["patient_test"][modality] = {
            "images_per_class": 12,
            "control_patients": 2,
            "osteoporosis_patients": 2,
        }
    easy = {"minimum": 0.0, "subgroups": 0.0, "patients": 2}
    params["gate"] = [rule | {"value": easy[rule["rule"]]} if rule["rule"] in easy else rule for rule in params["gate"]]
    for rule in params["gate"]:
        if rule["rule"] == "minimum":
            rule["bound"] = "point"  # a handful of patients, whose intervals decide nothing
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project folder; its servers are stopped in the end."""
    root = tmp_path_factory.mktemp("project")
    for name in CODE:
        source, target = ROOT / name, root / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (root / "params.yaml").write_text(yaml.safe_dump(shrink(params)), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "RAY_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    git = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    environment = {**kept, **git, "PATH": path, "PYTHONPATH": str(root), "OSTEO_DIE_WITH_PARENT": "1"}
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        subprocess.run(command, cwd=root, env=environment, check=True)
    project = Project(root, environment)
    yield project
    project.osteo("down")
