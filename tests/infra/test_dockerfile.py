"""The image: one pinned base, the lock file, no root, no secret."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "infra" / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def _of(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def test_the_base_is_pinned_and_is_the_projects_python() -> None:
    first, *rest = _of("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64} AS base", first)
    assert rest == ["base AS cpu-libraries", "base AS cuda-libraries", "${LIBRARIES}-libraries"]
    assert _of("ARG") == ["LIBRARIES=cpu", "TORCH_INDEX="]  # no address of an index stands in the repository


def _run(stage: str, tmp_path: Path, **environ: str) -> list[list[str]]:
    """What the stage's RUN calls pip with, as the shell reads it."""
    line = next(line for line in LINES[LINES.index(f"FROM base AS {stage}") :] if line.startswith("RUN "))
    command = re.sub(r"^RUN (--mount=\S+ )?", "", line)
    command = (
        command.replace("/opt/osteo/ray.lock", "infra/ray.lock")
        .replace("/opt/osteo/", "")
        .replace("/tmp/", f"{tmp_path}/")
    )
    script = '#!/bin/sh\nprintf "%s\\n" "${PIP_INDEX_URL-usual} $*" >> "$TOLD"\nexit "${CODE:-0}"\n'
    (tmp_path / "pip").write_text(script, encoding="utf-8")
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "TOLD": str(tmp_path / "told"), **environ}
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, cwd=ROOT, check=False)
    assert done.returncode == int(environ.get("CODE", "0"))
    return [line.split() for line in (tmp_path / "told").read_text(encoding="utf-8").splitlines()]


LOCKED = ["usual", "install", "--requirement", "requirements.lock", "--requirement", "infra/ray.lock"]


@pytest.mark.parametrize("stage", ["cpu-libraries", "cuda-libraries"])
def test_everything_comes_from_the_locks(tmp_path: Path, stage: str) -> None:
    assert _run(stage, tmp_path, TORCH_INDEX="") == [LOCKED]


def test_torch_alone_comes_from_an_index_of_its_own(tmp_path: Path) -> None:
    """First, so that the lock finds it there and takes no build with CUDA."""
    first, second = _run("cpu-libraries", tmp_path, TORCH_INDEX="https://index.example/cpu")
    assert first[:-1] == ["https://index.example/cpu", "install", "--no-deps", "--requirement"]
    names = [line.partition("==")[0] for line in Path(first[-1]).read_text(encoding="utf-8").splitlines()]
    assert names == ["torch", "torchvision"]
    assert second == LOCKED


def test_an_index_without_torch_stops_the_build(tmp_path: Path) -> None:
    assert len(_run("cpu-libraries", tmp_path, TORCH_INDEX="https://index.example/cpu", CODE="1")) == 1


def test_nothing_else_is_installed_but_the_project() -> None:
    installs = [
        part.strip(" ;") for line in _of("RUN") for part in line.split("&&") if part.lstrip().startswith("pip install")
    ]
    assert [part.split()[2:] for part in installs if "--requirement" not in part] == [
        ["setuptools==80.9.0"],
        ["--no-deps", "--no-build-isolation", "--editable", "/opt/osteo"],
    ]


def test_git_takes_the_projects_folder_whoever_owns_it(tmp_path: Path) -> None:
    """Docker's and Kubernetes' volumes often belong to another user than the container's."""
    (command,) = [part.strip() for line in _of("RUN") for part in line.split("&&") if "git config" in part]
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_SYSTEM": str(tmp_path / "gitconfig")}
    subprocess.run(["/bin/sh", "-c", command], env=environment, check=True)
    asked = ["git", "config", "--system", "--get-all", "safe.directory"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["/srv/osteo"] == _of("WORKDIR")
    assert LINES.index("USER osteo") > next(i for i, line in enumerate(LINES) if command in line)


def test_it_does_not_run_as_root() -> None:
    assert _of("USER") == ["osteo"]
    assert LINES.index("USER osteo") > max(i for i, line in enumerate(LINES) if line.startswith(("RUN", "COPY")))
    assert "useradd --uid 1000" in TEXT


def test_only_named_files_are_copied_and_no_secret_is() -> None:
    assert [line.split()[0] for line in _of("COPY")] == [
        *("requirements.lock", "pyproject.toml", "osteo_models", "pipelines", "infra"),
    ]
    assert all((ROOT / name).exists() for line in _of("COPY") for name in line.split()[:-1])
    assert not _of("ADD")
    assert not re.search(r"(?i)^(ARG|ENV) .*(password|secret|token|key)", TEXT, flags=re.MULTILINE)


def test_an_env_file_stays_outside() -> None:
    ignored = (ROOT / "infra" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert {"**/.env", "**/*.key", "data", ".osteo", ".git"} <= set(ignored)
    assert "infra/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
