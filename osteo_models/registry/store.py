"""The MLflow store behind a tracking address: checked, migrated once, and with nothing sent home."""

from __future__ import annotations

import http.client
import itertools
import logging
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.telemetry import set_telemetry_client
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from osteo_models.core.errors import StoreError
from osteo_models.core.files import LOCK_SECONDS
from osteo_models.core.settings import embedded_store, silence_telemetry
from osteo_models.registry.embedded_store import lock_embedded, make_embedded

DATABASES: Final = ("sqlite", "postgresql")
SERVERS: Final = ("http", "https")
ALLOWED: Final = "sqlite:///FILE, postgresql://..., http://... or https://..."
SERVER_TIMEOUT_SECONDS: Final = 10.0
REFUSED: Final = (401, 403)
RESOURCE_MISSING: Final = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
VALUE_REFUSED: Final = ErrorCode.Name(INVALID_PARAMETER_VALUE)
SIGN_IN: Final = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account that may do this"
STORE_LOCK: Final = 0x057E0DB5  # PostgreSQL's advisory locks are numbers; any that no other program uses will do
COLLIDED: Final = ("UniqueViolation", "UNIQUE constraint failed")  # as PostgreSQL and SQLite say it
COLLISIONS: Final = 5  # more than there are requests for one run that two could send
RETRIES: Final = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
# MLflow asks the environment each time.
HARDENED: Final = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Every column in which MLflow's database keeps where artifacts lie.
ADDRESSES: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def open_client(uri: str, artifact_root: Path) -> MlflowClient:
    """A client of the store at `uri`, which is made or migrated first where it is a database.

    Any number of processes may start on an empty folder at once: MLflow's own migration would race.

    Args:
        uri: `sqlite:///FILE`, `postgresql://...`, or a tracking server.
        artifact_root: Where a database's artifacts go; a tracking server decides for itself.
    """
    harden_mlflow()
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in SERVERS:
        _probe_server(uri)
    elif scheme in DATABASES:
        with explain_mlflow(uri):
            _prepare_database(uri, artifact_root)
    else:
        raise StoreError(f"{hide_password(uri)!r} is no MLflow store", where="MLFLOW_TRACKING_URI", allowed=ALLOWED)
    with explain_mlflow(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def harden_mlflow() -> None:
    """Switch off MLflow's usage reports and its loading of pickles, for this process and its children."""
    silence_telemetry()
    os.environ.update(HARDENED)
    # MLflow made up its mind about usage reports when it was imported; this asks again.
    set_telemetry_client()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # what is tried again is no news yet


def disable_client_retries() -> None:
    """Let MLflow's client say soon that a server does not answer, for this process, unless the environment says other.

    By itself it tries seven times, pauses up to two minutes between, and finds late a server that is back.
    """
    os.environ.setdefault(*RETRIES)


@contextmanager
def explain_mlflow(where: str) -> Iterator[None]:
    """Turn MLflow's and the database's exceptions into a StoreError that names the store.

    Raises:
        StoreError: What was raised inside.
    """
    where = hide_password(where)
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        found = _first_line(error)
        if "out-of-date database schema" in found:
            remedy = f"copy the database, then run `mlflow db upgrade {where}`"
            raise StoreError("the database was made by another MLflow release", where=where, remedy=remedy) from error
        remedy = "check MLFLOW_TRACKING_URI and that the store is up"
        if isinstance(error, MlflowException) and error.get_http_status_code() in REFUSED:
            found, remedy = "the server refuses these credentials", SIGN_IN
        raise StoreError(found, where=where, remedy=remedy) from error


def is_missing(error: MlflowException) -> bool:
    """Whether a store answered that it has no such thing; any other error says nothing about what is in the store."""
    # An id or name that cannot be one is refused as a value before the store looks for it.
    return error.error_code in (RESOURCE_MISSING, VALUE_REFUSED)


def hide_password(uri: str) -> str:
    """An address as it may be shown."""
    try:
        return make_url(uri).render_as_string(hide_password=True) if "@" in uri else uri
    except ArgumentError:
        return uri.rpartition("@")[2]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _prepare_database(uri: str, artifact_root: Path) -> None:
    file, place = _sqlite_file(uri) if uri.startswith("sqlite") else None, artifact_root.absolute()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    with serialize_writes(uri):
        if file:
            _check_sqlite(file)
            make_embedded(file, place.as_uri())
            _update_moved_addresses(file, place)
        SqlAlchemyStore(uri, place.as_uri())


@contextmanager
def serialize_writes(uri: str) -> Iterator[None]:
    """Let one process at a time look for something in a store, and make it where it is missing.

    PostgreSQL's lock holds on every machine and ends with the connection; SQLite's is a file beside it. A tracking
    server has none: nothing waits there.
    """
    if uri.startswith("sqlite"):
        with lock_embedded(_sqlite_file(uri)):
            yield
    elif urlsplit(uri).scheme in SERVERS:
        yield
    else:
        # No transaction: a server may end one that is idle, and the lock with it.
        engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS:.0f}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": STORE_LOCK})
            yield


def retry_collisions(work: Callable[[], str]) -> str:
    """Do again what met another process that wrote the same at the same moment: now it finds that written."""
    for _ in range(COLLISIONS):
        try:
            return work()
        except MlflowException as error:
            if not any(word in str(error) for word in COLLIDED):
                raise
    return work()


def _sqlite_file(uri: str) -> Path:
    file = make_url(uri).database
    if not file or file == ":memory:":
        raise StoreError("a store in memory is lost at the end", where=uri, allowed=ALLOWED)
    return Path(file)


def _check_sqlite(path: Path) -> None:
    # SQLAlchemy's own check retries for a minute and a half before it gives up on a file that is no database.
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
            connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        remedy = "move the file away, or correct its permissions, and run the command again"
        raise StoreError(f"not a usable SQLite database ({error})", where=str(path), remedy=remedy) from None


def _update_moved_addresses(file: Path, artifact_root: Path) -> None:
    """Point an embedded store at its artifacts where the project was moved or copied: MLflow keeps absolute addresses.

    Only the embedded store of this state folder; a database that several projects share says nothing about a move.
    """
    if file.absolute() != embedded_store(artifact_root.parent) or not artifact_root.is_dir():
        return
    here, tail = artifact_root.as_uri(), f"/{artifact_root.name}/"
    with closing(sqlite3.connect(file)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return
        places = [place for (place,) in connection.execute("SELECT artifact_location FROM experiments")]
        roots = {place[: place.rindex(tail) + len(tail) - 1] for place in places if _is_below(place, tail)}
        for old, (table, column) in itertools.product(roots - {here}, ADDRESSES):
            if table in tables:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def _is_below(place: str | None, tail: str) -> bool:
    """Whether an address is that of a file in an artifact folder of this name."""
    return place is not None and place.startswith("file:") and tail in place


def is_away(uri: str) -> bool:
    """Whether the store is a tracking server that does not answer; a database is never away."""
    if urlsplit(uri).scheme not in SERVERS:
        return False
    try:
        _probe_server(uri)
    except StoreError:
        return True
    return False


def _probe_server(uri: str) -> None:
    """See that something answers; MLflow itself would try for minutes. Any HTTP status counts as an answer."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError:
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        remedy = "start it with `osteo up`, or unset MLFLOW_TRACKING_URI to use the embedded store"
        raise StoreError(f"no MLflow server answers ({error})", where=hide_password(uri), remedy=remedy) from None
