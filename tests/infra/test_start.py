"""start.sh: a server gets its secrets in its environment or in files of mode 0600; an empty one stops the start."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from osteo_models.settings import TELEMETRY_OFF
from tests.conftest import ROOT

SCRIPT = ROOT / "infra" / "start.sh"
NAMES = (
    *("postgres_password", "s3_access_key", "s3_secret_key", "mlflow_password", "mlflow_session_key"),
    *("prefect_auth", "ray_token"),
)
# The programs that it becomes, and what each of them must not be told on its command line.
PROGRAMS = {
    "s3": "weed",
    "bucket": "python",
    "mlflow": "mlflow",
    "prefect": "python",
    "ray-head": "ray",
    "ray-worker": "ray",
    "optuna-dashboard": "optuna-dashboard",
}
NEEDS = {
    "s3": ("s3_access_key", "s3_secret_key"),
    "bucket": ("s3_access_key", "s3_secret_key"),
    "mlflow": ("postgres_password", "s3_access_key", "s3_secret_key", "mlflow_password", "mlflow_session_key"),
    "prefect": ("postgres_password", "prefect_auth"),
    "flow-worker": ("mlflow_password", "prefect_auth", "postgres_password", "ray_token"),
    "ray-head": ("ray_token",),
    "ray-worker": ("ray_token",),
    "optuna-dashboard": ("postgres_password",),
}


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """Secrets, a folder for keys, and programs that tell what they were called with."""
    for name in ("secrets", "keys", "bin"):
        (tmp_path / name).mkdir()
    for name in NAMES:
        (tmp_path / "secrets" / name).write_text(f"hidden-{name}", encoding="utf-8")
    for program in {*PROGRAMS.values(), "prefect"}:
        path = tmp_path / "bin" / program
        path.write_text('#!/bin/sh\nprintf "%s " "$0" "$@" >> "$TOLD"\nenv > "$TOLD.env"\n', encoding="utf-8")
        path.chmod(0o755)
    return tmp_path


def _start(stage: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{stage / 'bin'}:{os.defpath}",
        "OSTEO_SECRETS_DIR": str(stage / "secrets"),
        "OSTEO_KEYS_DIR": str(stage / "keys"),
        "TOLD": str(stage / "told"),
    }
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("server", NEEDS)
def test_no_secret_stands_in_a_command_line(stage: Path, server: str) -> None:
    done = _start(stage, server, "ray-head:6379")
    assert done.returncode == 0, done.stderr
    told = (stage / "told").read_text(encoding="utf-8")
    assert PROGRAMS.get(server, "prefect") in told
    assert "hidden" not in told + done.stdout + done.stderr
    known = (stage / "told.env").read_text(encoding="utf-8") + "".join(
        path.read_text(encoding="utf-8") for path in (stage / "keys").iterdir()
    )
    reached = {name for name in NAMES if f"hidden-{name}" in known}
    assert reached == set(NEEDS[server]) - {"ray_token"}  # Ray reads its file itself
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (stage / "keys").iterdir())


BAD = {"missing": None, "empty": "", "blank": "\n", "space": "a b", "address": "x@y/z"}


@pytest.mark.parametrize(
    ("server", "secret", "content"),
    [(server, name, "") for server, names in NEEDS.items() for name in names]
    + [("ray-head", "ray_token", content) for content in BAD.values()]
    + [("mlflow", "postgres_password", content) for content in BAD.values()],
)
def test_a_bad_secret_stops_the_start(stage: Path, server: str, secret: str, content: str | None) -> None:
    path = stage / "secrets" / secret
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = _start(stage, server, "ray-head:6379")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: secret {secret}: ")
    assert done.stderr.endswith("; set it in infra/.env (see infra/README.md)\n")
    assert not (stage / "told").exists()


def test_the_files_that_servers_read(stage: Path) -> None:
    _start(stage, "s3")
    (identity,) = json.loads((stage / "keys" / "s3.json").read_text(encoding="utf-8"))["identities"]
    assert identity["credentials"] == [{"accessKey": "hidden-s3_access_key", "secretKey": "hidden-s3_secret_key"}]
    _start(stage, "mlflow")
    users = ConfigParser()
    users.read(stage / "keys" / "basic_auth.ini", encoding="utf-8")
    assert users["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert users["mlflow"]["database_uri"].endswith("@postgres:5432/mlflow_auth")


def test_an_unknown_server(stage: Path) -> None:
    assert _start(stage, "nginx").stderr == "error: no server nginx\n"


def test_nothing_is_told_to_anybody_outside(stage: Path) -> None:
    assert _start(stage, "mlflow").returncode == 0
    told = dict(line.split("=", 1) for line in (stage / "told.env").read_text(encoding="utf-8").splitlines())
    assert {name: told[name] for name in TELEMETRY_OFF} == TELEMETRY_OFF
