"""databases.sh before a real PostgreSQL, and the S3 store of start.sh with bucket.py, on ports of their own."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError, EndpointConnectionError

from osteo_models.ops.servers import postgresql
from osteo_models.ops.servers.launch import launch, stop_servers
from osteo_models.ops.servers.object_store import PARTS, find_weed
from tests.conftest import ROOT
from tests.infra.conftest import SCRIPT, STAND_IN, Stage
from tests.security.remote_calls import UNAUTHENTICATED, call

ROLES = ("mlflow", "prefect", "optuna", "journal")
HOST = "127.0.0.1"


def _find_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server that writes every statement to its log, and secrets for its roles."""

    folder: Path
    port: int

    def secret(self, name: str) -> Path:
        return self.folder / "secrets" / name

    def prepare(self, **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{postgresql._programs()}:{os.defpath}",
            "OSTEO_SECRETS_DIR": str(self.folder / "secrets"),
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
        }
        command = [ROOT / "infra" / "databases.sh"]
        return subprocess.run(command, env=environment | environ, capture_output=True, text=True, check=False)

    def connect(self, role: str, database: str, secret: str | None = None) -> psycopg.Connection:
        password = self.secret(secret or f"{role}_database_password").read_text(encoding="utf-8")
        return psycopg.connect(host=HOST, port=self.port, user=role, password=password, dbname=database)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    # Not below pytest's own folder: each start of pytest closes that to PostgreSQL's account.
    with tempfile.TemporaryDirectory(prefix="osteo-") as place:
        found = Database(Path(place), _find_port())
        (found.folder / "secrets").mkdir()
        for name in ("postgres_password", *(f"{role}_database_password" for role in ROLES)):
            found.secret(name).write_text(f"hidden-{name}", encoding="utf-8")
        password = found.secret("postgres_password").read_text(encoding="utf-8")
        step = lambda ports: [postgresql.postgresql(found.folder / "data", ports["postgres"], password)]  # noqa: E731
        launch(found.folder, {"postgres": found.port}, [step], timeout_seconds=60)
        try:
            with found.connect("postgres", "postgres", "postgres_password") as connection:
                connection.autocommit = True
                connection.execute("ALTER SYSTEM SET log_statement = 'all'")
                connection.execute("SELECT pg_reload_conf()")
            yield found
        finally:
            stop_servers(found.folder)


@pytest.fixture(scope="module")
def prepared(database: Database) -> Database:
    done = database.prepare()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"made the database {role}" for role in ROLES]
    return database


def test_a_role_makes_tables_in_its_database_and_enters_no_other(prepared: Database) -> None:
    for role in ROLES:
        with prepared.connect(role, role) as connection:
            connection.execute("CREATE TABLE own (id integer)")
            row = connection.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = user")
            assert row.fetchone() == (False, False, False)
        for other in set(ROLES) - {role}:
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                prepared.connect(role, other)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            prepared.connect(role, role, "postgres_password")


def test_the_servers_log_holds_verifiers_alone(prepared: Database) -> None:
    log = (prepared.folder / "logs" / "postgres.log").read_text(encoding="utf-8")
    assert log.count("SCRAM-SHA-256$") >= len(ROLES)
    assert "hidden" not in log


def test_no_password_stands_in_a_command_line(prepared: Database, tmp_path: Path) -> None:
    path = tmp_path / "psql"
    path.write_text(STAND_IN, encoding="utf-8")
    path.chmod(0o755)
    told = tmp_path / "told"
    assert prepared.prepare(PATH=f"{tmp_path}:{os.defpath}", TOLD=str(told)).returncode == 0
    records = told.read_text(encoding="utf-8").split("\2\0")[:-1]
    words = [record.split("\1\0")[0] for record in records]
    assert len(words) > 4 * len(ROLES)
    assert not [each for each in words if "hidden" in each]


def test_another_start_changes_nothing_but_a_changed_password(prepared: Database) -> None:
    secret = prepared.secret("journal_database_password")
    before = secret.read_text(encoding="utf-8")
    try:
        secret.write_text("hidden-and-new", encoding="utf-8")
        done = prepared.prepare()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with prepared.connect("journal", "journal") as connection:
            connection.execute("SELECT 1")
    finally:
        secret.write_text(before, encoding="utf-8")
        assert prepared.prepare().returncode == 0


def test_an_empty_password_is_refused(prepared: Database) -> None:
    secret = prepared.secret("optuna_database_password")
    before = secret.read_text(encoding="utf-8")
    try:
        secret.write_text("", encoding="utf-8")
        done = prepared.prepare()
        assert done.returncode != 0
        assert "secret optuna_database_password is empty" in done.stderr
    finally:
        secret.write_text(before, encoding="utf-8")


def test_a_server_that_comes_late_is_waited_for_a_while(prepared: Database) -> None:
    port = _find_port()
    started = time.monotonic()
    done = prepared.prepare(PGPORT=str(port), OSTEO_WAIT_SECONDS="2")
    assert done.returncode == 1
    assert done.stderr.startswith("error: PostgreSQL: ")
    assert "Connection refused" in done.stderr
    assert time.monotonic() - started > 1


def test_the_health_check_goes_by_tcp(prepared: Database) -> None:
    """The server that the image starts to set itself up listens on a socket file alone, and goes away again."""
    services = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    direct, *command = services["postgres"]["healthcheck"]["test"]
    assert direct == "CMD"
    for port, code in ((prepared.port, 0), (_find_port(), 2)):
        environment = {"PATH": f"{postgresql._programs()}:{os.defpath}", "PGPORT": str(port), "PGHOST": "/nowhere"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr


@pytest.fixture
def store(stage: Stage) -> Iterator[dict[str, int]]:
    """The store with the options of start.sh, but for its ports and its folder; its ports by name."""
    ports = {f"{part}.port{kind}": _find_port() for part in (*PARTS, "s3") for kind in ("", ".grpc")}
    (stage.folder / "data").mkdir()
    options = {"dir": stage.folder / "data", "s3.ip.bind": HOST, **ports}
    given = " ".join(f"-{name}={value}" for name, value in options.items())
    program = stage.folder / "bin" / "weed"
    program.write_text(f'#!/bin/sh\nexec {find_weed()} "$@" {given}\n', encoding="utf-8")  # the last one counts
    environment = {
        "PATH": f"{stage.folder / 'bin'}:{os.defpath}",
        "OSTEO_SECRETS_DIR": str(stage.secrets),
        "OSTEO_KEYS_DIR": str(stage.keys),
        "HOME": str(stage.folder),
    }
    with (stage.folder / "log").open("w") as log:
        server = subprocess.Popen([SCRIPT, "s3"], env=environment, stdout=log, stderr=log)
        try:
            yield ports
        finally:
            server.kill()  # nothing of it is kept
            server.wait()


@pytest.fixture
def make_bucket(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    keys = {"AWS_ACCESS_KEY_ID": "hidden-s3_access_key", "AWS_SECRET_ACCESS_KEY": "hidden-s3_secret_key"}
    for name, value in {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would remember other keys
    return runpy.run_path(str(ROOT / "infra" / "bucket.py"))["make_bucket"]


def test_the_store_takes_the_bucket_once_it_is_ready_and_no_strangers_call(
    store: dict[str, int], make_bucket: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://{HOST}:{store['s3.port']}"
    assert make_bucket("osteo", address)  # the store is still starting
    assert not make_bucket("osteo", address)
    # It would let anybody write an identity, administrators included, were its calls not to be signed.
    status, told = call(HOST, store["s3.port.grpc"], "/messaging_pb.SeaweedS3IamCache/PutIdentity", {})
    assert (status, told) == (UNAUTHENTICATED, "missing authorization metadata")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        make_bucket("osteo", address, wait_seconds=0)


def test_a_store_that_never_comes_is_told(make_bucket: Callable[..., bool]) -> None:
    started = time.monotonic()
    with pytest.raises(EndpointConnectionError):
        make_bucket("osteo", f"http://{HOST}:{_find_port()}", wait_seconds=1)
    assert time.monotonic() - started > 1
