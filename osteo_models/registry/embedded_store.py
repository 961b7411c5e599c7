"""MLflow's SQLite database: made whole or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import sys
from pathlib import Path

from osteo_models.core.files import hold_lock


def lock_embedded(file: Path) -> contextlib.AbstractContextManager[None]:
    """The lock under which processes of this machine look for something in a database, and make what is missing."""
    return hold_lock(file.with_name(f"{file.name}.lock"))


def make_embedded(file: Path, artifact_root: str) -> None:
    """Make MLflow's tables where there are none; whoever calls holds the lock.

    MLflow's hundred steps to its tables are no transaction in SQLite: those of a killed process cannot be finished.

    Args:
        file: May hold tables of others, such as the journal.
        artifact_root: Where artifacts of the first experiment go, as an address.
    """
    if _is_migrated(file):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # what a server that starts again can spare

    for left in file.parent.glob(f".{file.name}.*.new*"):
        left.unlink()
    # MLflow keeps its connections by address: a name that was tried before could be one to a file that is gone.
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    if file.exists():
        shutil.copyfile(file, new)
    SqlAlchemyStore(f"sqlite:///{new}", artifact_root).engine.dispose()
    new.replace(file)


def _is_migrated(file: Path) -> bool:
    if not file.exists():
        return False
    with contextlib.closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    return found is not None


def main(file: str, artifacts: str, *options: str) -> None:
    """Make the database where there is none, and serve it."""
    from mlflow.cli import cli  # half a second that only the server needs

    with lock_embedded(Path(file)):
        make_embedded(Path(file), "mlflow-artifacts:/")
    places = ("--backend-store-uri", f"sqlite:///{file}", "--artifacts-destination", Path(artifacts).as_uri())
    cli(["server", *places, *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
