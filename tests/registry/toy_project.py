"""A project under git and DVC whose only stage registers an untrained network by the functions of the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.settings import Settings, load_settings
from osteo_models.data.code_tree import read_code
from osteo_models.models import build
from osteo_models.registry.registration import register_version
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.training.checkpoint import save_weights
from tests.conftest import INTENSITY, ROOT

NAME = "osteo-unimodal-mri"
KEY = "ab" * 8
STAGE = {"cmd": "python pipelines/toy.py", "params": ["experiments.seed", "evaluate"], "outs": ["artifacts/toy.json"]}
GATE = [{"rule": "code_pinned"}, {"rule": "files_intact"}]
GATE += [{"rule": "minimum", "stages": ["stage-3"], "metric": "balanced_accuracy", "value": 0.7}]


def register() -> None:
    """What the stage does: a network by its seed, and an evaluation whose interval is that of its settings."""
    settings = load_settings()
    params = yaml.safe_load((settings.root / "params.yaml").read_text())
    model, evidence = settings.state / "model", settings.state / "evaluation" / "groups.csv"
    for folder in (model, evidence.parent):
        folder.mkdir(exist_ok=True)
    save_weights(model / "model.safetensors", build("unimodal", seed=params["experiments"]["seed"]), {})
    prepare = {"crop_mm": [200, 120], "intensity": INTENSITY}
    record = {"architecture": "unimodal", "spec": {}, "images": "mri", "key": KEY, "recipe": {}, "prepare": prepare}
    (model / "model.json").write_text(json.dumps(record | {"threshold": 0.5}))
    evidence.write_text(f"group,seed\nF,{params['evaluate']['seed']}\n")
    name, half = "stage_3.patient.balanced_accuracy", 1 / params["evaluate"]["seed"]
    job = JobRun(KEY, "stage-5", "unimodal-mri", {}, {}, "lumbar-cohort", "d" * 32, "data.dvc", 1)
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    run_id = tracking.begin_job(job)
    tracking.finish_run(run_id, {})
    version = register_version(
        tracking,
        model_folder=model,
        metrics={name: 0.9, f"{name}.ci_low": 0.9 - half, f"{name}.ci_high": 0.9 + half},
        tags={**read_code(settings.root), "dvc.data": "d" * 32, "synthetic": "true"},
        evidence=[evidence],
        files={"origin.json": b'{"jobs": []}'},
        run_id=run_id,
    )
    (settings.root / "artifacts").mkdir(exist_ok=True)
    (settings.root / "artifacts" / "toy.json").write_text(json.dumps({"version": version.version}))


class ToyProject:
    """The project in its folder, and the commands as a person types them there."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root = root
        (root / ".osteo").mkdir(parents=True)
        shutil.copy(store, root / "mlflow.db")
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | {"gate": GATE}
        for name, text in {
            "params.yaml": yaml.safe_dump(params, sort_keys=False),
            "dvc.yaml": yaml.safe_dump({"stages": {"toy": STAGE}}),
            "pipelines/toy.py": "from tests.registry.toy_project import register\n\nregister()\n",
            ".gitignore": ".osteo/\nmlflow.db*\nartifacts/\n",
            ".dvc/config": "[core]\n    analytics = false\n",
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        }.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        self.git("init", "-q", "-b", "main")
        self.commit("start")

    @property
    def settings(self) -> Settings:
        return load_settings(self.root)

    @property
    def tracking(self) -> Tracking:
        return open_tracking(self.settings.tracking_uri, self.settings.state / "mlartifacts")

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self, message: str, *arguments: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message, *arguments)

    def dvc(self, *arguments: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t"}
        environment |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def edit(self, seed: int) -> None:
        """Change the network."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["experiments"]["seed"] = seed
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def osteo(self, *arguments: str, code: int = 0) -> str:
        """Run a command in the folder, where the tests are."""
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.output
