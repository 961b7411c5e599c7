"""Data and results on a remote: pushed from one clone, pulled into another, which then has nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from osteo_models.data.revisions import hash_data
from tests.conftest import ROOT
from tests.data.intake_files import as_bytes, make_dicom
from tests.data.storage_server import BUCKET, Storage, serve_storage

CODE = (
    "osteo_models",
    "pipelines",
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".gitignore",
)
IMAGES = 24


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """One S3 server for all tests."""
    with serve_storage(tmp_path_factory.mktemp("s3")) as storage:
        yield storage


def run(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    """Run a command in a clone and give what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(folder: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments, code=code, **variables)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A project whose stages are all recorded as done, with outputs that stand for real ones."""
    root = tmp_path / "origin"
    for name in CODE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, root / name)
    for number in range(IMAGES):
        path = root / "data" / "dicom" / f"{number % 8:012x}" / f"mri-{number:016x}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(make_dicom(seed=number)))
    for stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values():
        outputs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"] + stage.get("metrics", [])]
        for name in outputs + [path for path in stage["deps"] if path.startswith("artifacts/") and Path(path).suffix]:
            path = root / name if Path(name).suffix else root / name / "part.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"stands for {name}\n" if path.suffix != ".json" else f'{{"stands for": "{name}"}}\n')
    run(root, "git", "init", "-q")
    dvc(root, "add", "-q", "data")
    dvc(root, "commit", "-q", "--force")
    return root


def commit(root: Path) -> None:
    run(root, "git", "add", "-A")
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all")


def check_clone(origin: Path, clone: Path, **variables: str) -> None:
    """A fresh clone pulls, has every byte, and DVC finds nothing to do in any stage."""
    run(origin.parent, "git", "clone", "-q", str(origin), str(clone))
    assert not (clone / "data").exists()
    assert sorted(path.name for path in (clone / "artifacts").iterdir()) == ["metrics", "plots"]  # in git
    dvc(clone, "pull", **variables)
    for folder in ("data", "artifacts"):
        assert hash_data(clone / folder) == hash_data(origin / folder)
    said = dvc(clone, "repro")
    stages = yaml.safe_load((clone / "dvc.yaml").read_text())["stages"]
    assert all(f"Stage '{name}' didn't change, skipping" in said for name in stages) and "Running" not in said
    assert run(clone, "git", "status", "--porcelain") == ""


def test_a_fresh_clone_pulls_from_a_folder_and_has_nothing_to_do(origin, tmp_path):
    dvc(origin, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    commit(origin)
    dvc(origin, "push")
    check_clone(origin, tmp_path / "clone")


@pytest.mark.slow
def test_a_fresh_clone_pulls_from_s3_and_no_key_is_in_git(origin, tmp_path, storage):
    dvc(origin, "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/dvc")
    dvc(origin, "remote", "modify", "store", "endpointurl", storage.endpoint)
    for option, value in (("access_key_id", storage.access_key), ("secret_access_key", storage.secret_key)):
        dvc(origin, "remote", "modify", "--local", "store", option, value)
    commit(origin)
    dvc(origin, "push")
    tracked = run(origin, "git", "ls-files").split()
    assert ".dvc/config" in tracked and ".dvc/config.local" not in tracked
    assert "everything is up to date" in dvc(origin, "push").lower()
    secret = storage.secret_key.encode()
    assert not any(secret in (origin / name).read_bytes() for name in tracked)
    assert secret in (origin / ".dvc" / "config.local").read_bytes()
    check_clone(origin, tmp_path / "clone", **storage.environment)
    assert "up to date" in dvc(tmp_path / "clone", "status")
    shutil.rmtree(tmp_path / "clone")
    wrong = storage.environment | {"AWS_SECRET_ACCESS_KEY": "0" * 40}
    run(tmp_path, "git", "clone", "-q", str(origin), "clone")
    dvc(tmp_path / "clone", "pull", code=1, **wrong)
    assert not (tmp_path / "clone" / "data").exists()
