"""The image: one pinned base, the lock file, no root, no secret."""

from __future__ import annotations

import re

from tests.conftest import ROOT

TEXT = (ROOT / "infra" / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def _of(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def test_the_base_is_pinned_and_is_the_projects_python() -> None:
    first, *rest = _of("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64} AS base", first)
    assert rest == ["base AS cpu-libraries", "base AS cuda-libraries", "${LIBRARIES}-libraries"]
    assert _of("ARG") == ["LIBRARIES=cpu"]


def test_everything_comes_from_the_lock() -> None:
    installs = [part for line in _of("RUN") for part in line.split("&&") if "pip install" in part]
    locked = [part for part in installs if "--requirement /opt/osteo/requirements.lock" in part]
    others = [part.split() for part in installs if part not in locked]
    assert len(locked) == 2
    assert others == [
        ["pip", "install", "setuptools==80.9.0"],
        ["pip", "install", "--no-deps", "--no-build-isolation", "--editable", "/opt/osteo"],
    ]


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
