"""start.sh with programs that tell what they were called with."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "infra" / "start.sh"
# For each server: the secrets that it gets, and must have.
NEEDS = {
    "s3": ("s3_access_key", "s3_secret_key", "s3_inner_key"),
    "bucket": ("s3_access_key", "s3_secret_key"),
    "mlflow": ("mlflow_database_password", "s3_access_key", "s3_secret_key", "mlflow_password", "mlflow_session_key"),
    "prefect": ("prefect_database_password", "prefect_auth"),
    "flow-worker": (
        *("mlflow_password", "prefect_auth", "journal_database_password", "optuna_database_password", "ray_token"),
    ),
    "ray-head": ("ray_token",),
    "ray-worker": ("ray_token",),
    "optuna-dashboard": ("optuna_database_password",),
}
SECRETS = sorted({"postgres_password"}.union(*NEEDS.values()))
PROGRAMS = ("weed", "python", "mlflow", "prefect", "ray", "optuna-dashboard")
# One record for each call: its words, then its environment. UNHEALTHY is what `ray health-check` says before it fails.
STAND_IN = r"""#!/bin/sh
{ printf '%s\0' "${0##*/}" "$@"; printf '\1\0'; env -0; printf '\2\0'; } >> "$TOLD"
[ "${0##*/} $1" != "ray health-check" ] || [ -z "${UNHEALTHY:-}" ] || { printf '%s\n' "$UNHEALTHY" >&2; exit 1; }
"""


@dataclass(frozen=True)
class Call:
    """A program as it was called."""

    words: list[str]
    environment: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Stage:
    """Secrets, a folder for keys, and programs that tell what they were called with."""

    folder: Path

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def start(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.defpath}",
            "OSTEO_SECRETS_DIR": str(self.secrets),
            "OSTEO_KEYS_DIR": str(self.keys),
            "TOLD": str(self.folder / "told"),
        }
        return subprocess.run(
            [SCRIPT, *arguments], env=environment | environ, capture_output=True, text=True, check=False
        )

    def calls(self) -> list[Call]:
        """What was called, in order."""
        told = self.folder / "told"
        records = told.read_text(encoding="utf-8").split("\2\0")[:-1] if told.exists() else []
        parted = [record.split("\1\0") for record in records]
        return [
            Call(words.split("\0")[:-1], dict(line.split("=", 1) for line in lines.split("\0")[:-1]))
            for words, lines in parted
        ]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for name in ("secrets", "keys", "bin"):
        (tmp_path / name).mkdir()
    for name in SECRETS:
        (tmp_path / "secrets" / name).write_text(f"hidden-{name}", encoding="utf-8")
    for program in PROGRAMS:
        path = tmp_path / "bin" / program
        path.write_text(STAND_IN, encoding="utf-8")
        path.chmod(0o755)
    return Stage(tmp_path)
