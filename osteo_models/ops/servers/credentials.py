"""The passwords and keys of the cluster profile: made once, kept in files that only their owner reads.

A secret named in the environment (`OSTEO_SECRET_S3_KEY` and so on) is taken when it is first needed. Afterwards the
file counts: servers keep what they were set up with. No secret is ever an argument of a command.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from osteo_models.core.errors import InputError
from osteo_models.core.files import write_atomically
from osteo_models.ops.servers.launch import SECRETS

SHORTEST: Final = 16
DATABASES: Final = ("mlflow", "prefect", "optuna", "journal")  # each with a role of its name
SUPERUSER: Final = "postgres"


@dataclass(frozen=True)
class Credentials:
    """What the servers ask for.

    Attributes:
        postgres: Password of the database's superuser.
        mlflow_database, prefect_database, optuna_database, journal_database: Passwords of the roles.
        mlflow: Password of the user `admin`.
        mlflow_session: Key that signs MLflow's forms.
        prefect: Password of the user `admin`.
        s3_id, s3_key: The one identity that the S3 store knows.
        s3_inner: Key under which the parts of the S3 store talk to each other.
        ray: Token of the Ray cluster.
    """

    postgres: str
    mlflow_database: str
    prefect_database: str
    optuna_database: str
    journal_database: str
    mlflow: str
    mlflow_session: str
    prefect: str
    s3_id: str
    s3_key: str
    s3_inner: str
    ray: str


def load_credentials(folder: Path, environ: Mapping[str, str]) -> Credentials:
    """Read the secrets of a folder; those that are missing are taken from the environment, or made.

    Raises:
        InputError: One of the environment is too short, or is not the one that the servers were set up with.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return Credentials(**{field.name: _load(folder / field.name, environ) for field in fields(Credentials)})


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read; it is never open to others, not even while it is written."""
    return write_atomically(path, text, mode=0o600)


def write_password_file(path: Path, found: Credentials) -> Path:
    """PostgreSQL's own file of passwords, so that no address needs to hold one."""
    passwords = {SUPERUSER: found.postgres} | {name: getattr(found, f"{name}_database") for name in DATABASES}
    escaped = {role: text.replace("\\", "\\\\").replace(":", "\\:") for role, text in passwords.items()}
    return write_private(path, "".join(f"*:*:*:{role}:{password}\n" for role, password in escaped.items()))


def _load(path: Path, environ: Mapping[str, str]) -> str:
    name = f"{SECRETS}{path.name.upper()}"
    given = environ.get(name)
    if given is not None and (len(given) < SHORTEST or not given.isprintable() or " " in given):
        found = "too short" if len(given) < SHORTEST else "holds blanks or characters that cannot be printed"
        raise InputError(found, where=name, allowed=f"at least {SHORTEST} characters, or unset: then it is made")
    if not path.exists():
        write_private(path, given or secrets.token_hex(24))
    kept = path.read_text(encoding="utf-8")
    if given is not None and given != kept:
        remedy = f"unset it, or set the servers up again: `osteo down`, then delete {path.parent.parent}"
        raise InputError("not the one that the servers were set up with", where=name, remedy=remedy)
    return kept
