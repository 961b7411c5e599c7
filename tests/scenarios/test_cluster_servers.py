"""`osteo up --profile cluster`: once, tightly, and again after a kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import psutil
import pytest

from osteo_models.core.errors import StoreError
from osteo_models.core.processes import find_living
from osteo_models.ops.servers import running_servers
from osteo_models.ops.servers.credentials import Credentials, load_credentials

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    from osteo_models.registry.store import SIGN_IN
    from osteo_models.registry.tracking import open_tracking

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::ResourceWarning")]
NAMES = ["postgres", "s3", "ray-head", "mlflow", "prefect", "ray-worker-1", "ray-worker-2"]


def secrets_of(site) -> Credentials:
    return load_credentials(site.folder / "secrets", {})


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_two_at_once_start_everything_once(site) -> None:
    assert site.said[0] == site.said[1]
    lines = site.said[0].splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == NAMES
    assert lines[-1] == f"To use them: source {site.folder / 'env'}"
    assert [server.name for server in running_servers(site.folder)] == NAMES


def test_once_more_finds_them_running(site) -> None:
    before = running_servers(site.folder)
    process = site.up()
    assert process.communicate(timeout=300)[0] == site.said[0]
    assert running_servers(site.folder) == before  # the same processes


def test_secrets_are_in_tight_files_and_nowhere_else(site) -> None:
    assert stat.S_IMODE((site.folder / "secrets").stat().st_mode) == 0o700
    kept = [*(site.folder / "secrets").iterdir(), site.folder / "env"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert told_secrets(site) == []
    assert not any(secret in text for secret in dataclasses.astuple(secrets_of(site)) for text in site.said)


def told_secrets(site) -> list[str]:
    """The names of secrets that stand in a command line, a log of a server or of Ray."""
    seen: list[str] = []
    for process in psutil.process_iter():
        try:
            seen.append(" ".join(process.cmdline()))
        except psutil.Error:  # it ended just now
            continue
    assert any(str(site.folder) in line for line in seen)
    logs = [*(site.folder / "logs").iterdir(), site.folder / "servers.json", *ray_logs(site)]
    assert len(logs) > 20
    seen += [path.read_text(encoding="utf-8", errors="replace") for path in logs]
    found = dataclasses.asdict(secrets_of(site))
    return [name for name, secret in found.items() if any(secret in text for text in seen)]


def ray_logs(site) -> list[Path]:
    (head,) = (server for server in running_servers(site.folder) if server.name == "ray-head")
    (place,) = {
        Path(part).parent
        for process in find_living(head).values()
        for option, part in zip(process.cmdline(), process.cmdline()[1:], strict=False)
        if option == "--temp-dir"
    }
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    return [path for path in place.glob("*/session_2*/logs/*") if path.is_file()]


def test_nobody_enters_without_credentials(site) -> None:
    mlflow, prefect = site.variables["MLFLOW_TRACKING_URI"], site.variables["PREFECT_API_URL"]
    assert status(f"{mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0") == 401
    assert status(f"{mlflow}/", Host="elsewhere.example") == 400
    assert status(f"{prefect}/admin/version") == 401
    assert status(f"{site.variables['AWS_ENDPOINT_URL']}/osteo") == 403
    assert status(f"{mlflow}/health") == 200


def test_the_databases_ask_for_passwords_and_are_closed_to_each_other(site, tmp_path: Path) -> None:
    import psycopg

    address = site.variables["OSTEO_JOURNAL_URI"].replace("+psycopg", "")
    passwords = site.variables["PGPASSFILE"]
    with psycopg.connect(f"{address}?passfile={passwords}") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("journal",)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"{address}?passfile={tmp_path / 'none'}")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(f"{address.removesuffix('journal')}mlflow?passfile={passwords}")


def test_a_wrong_password_is_told_as_one(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "guessed")
    tracking = open_tracking(site.variables["MLFLOW_TRACKING_URI"], tmp_path)
    with pytest.raises(StoreError) as caught:
        tracking.find_job("0")
    assert str(caught.value).endswith(f"the server refuses these credentials; {SIGN_IN}")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", site.variables["MLFLOW_TRACKING_PASSWORD"])
    assert tracking.find_job("0") is None


def test_killed_servers_are_started_again_where_they_were(site) -> None:
    before = {server.name: server for server in running_servers(site.folder)}
    for name in ("mlflow", "ray-worker-1"):
        os.killpg(before[name].pid, signal.SIGKILL)
    while find_living(before["mlflow"]) or find_living(before["ray-worker-1"]):
        time.sleep(0.05)
    process = site.up()
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said
    after = {server.name: server for server in running_servers(site.folder)}
    assert {name: server.url for name, server in after.items()} == {name: each.url for name, each in before.items()}
    assert {name for name in NAMES if after[name].pid != before[name].pid} == {"mlflow", "ray-worker-1"}
