"""Deployments of prefect.yaml on a real server and worker: parameters, promotions at once, a flow that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from osteo_models.core.processes import HOST, find_port
from osteo_models.registry.embedded_store import lock_embedded
from osteo_models.registry.versions import CHALLENGER, set_alias
from tests.conftest import ROOT
from tests.registry.test_gate_cli import NAME
from tests.registry.test_gate_cli import osteo as osteo  # a fixture

LOGIN = ("admin", "only-for-this-test")
DONE = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture
def prefect(osteo, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Prefect's command line in the project, beside a server behind its guard."""
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    url = f"http://{HOST}:{find_port(24300, ())}"
    secret = ":".join(LOGIN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect")}
    environment |= {"PREFECT_API_URL": f"{url}/api", "PREFECT_API_AUTH_STRING": secret, "PREFECT_CLI_COLORS": "false"}
    environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "pipelines.server:create_app",
        "--port",
        url.rpartition(":")[2],
    ]
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(
        command,
        env=environment | {"PREFECT_SERVER_API_AUTH_STRING": secret},
        stdout=log,
        stderr=subprocess.STDOUT,
    )

    def run(*arguments: str) -> str:
        line = [sys.executable, "-m", "prefect", *arguments]
        done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.url, run.environment = url, environment  # type: ignore[attr-defined]
    try:
        _await_health(url)
        yield run
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def _await_health(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/api/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def _runs(url: str) -> list[dict]:
    return httpx.post(f"{url}/api/flow_runs/filter", json={}, auth=LOGIN, timeout=30).raise_for_status().json()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_promotions_at_once(prefect, osteo, tmp_path: Path) -> None:
    set_alias(osteo.tracking, NAME, CHALLENGER, 2)
    prefect("work-pool", "create", "osteo", "--type", "process")
    told = prefect("--no-prompt", "deploy", "--prefect-file", str(ROOT / "infra" / "prefect.yaml"), "--all")
    assert all(name in told for name in ("reproduce/nightly", "stages/search", "promote/manual", "score/folder"))
    for _ in range(2):
        prefect("deployment", "run", "promote/manual", "--param", f'names=["{NAME}"]', "--param", "dry_run=true")
    said = prefect("worker", "start", "--pool", "osteo", "--run-once")
    states = sorted(run["state_name"] for run in _runs(prefect.url) if run["parameters"].get("dry_run"))
    assert states == ["AwaitingConcurrencySlot", "Completed"], said
    assert "version 2 would become champion" in said
    assert "champion" not in osteo("versions", NAME)
    time.sleep(1)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and states != ["Completed", "Completed"]:
        prefect("worker", "start", "--pool", "osteo", "--run-once", "--prefetch-seconds", "60")
        states = sorted(run["state_name"] for run in _runs(prefect.url) if run["parameters"].get("dry_run"))
    assert states == ["Completed", "Completed"]
    shown = httpx.post(f"{prefect.url}/api/deployments/filter", json={}, auth=LOGIN, timeout=30).text
    assert LOGIN[1] not in shown + str(_runs(prefect.url))


def _await_process(url: str) -> tuple[int, str]:
    """The process that a run names once it has begun, and the run."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for run in _runs(url):
            if named := [tag for tag in run["tags"] if tag.startswith("process:")]:
                return int(named[0].split(":")[-2]), run["id"]
            assert run["state_type"] not in DONE, run
        time.sleep(0.2)
    raise AssertionError(f"no run names its process: {_runs(url)}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_flow_of_a_deployment_is_marked(prefect, osteo, tmp_path: Path) -> None:
    set_alias(osteo.tracking, NAME, CHALLENGER, 2)
    prefect("work-pool", "create", "osteo", "--type", "process")
    prefect("--no-prompt", "deploy", "--prefect-file", str(ROOT / "infra" / "prefect.yaml"), "--all")
    prefect("deployment", "run", "promote/manual", "--param", "dry_run=true")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "osteo"]
    reconcile = [sys.executable, "-m", "pipelines.reconcile"]
    given: dict[str, Any] = {"env": prefect.environment, "cwd": tmp_path}
    with lock_embedded(tmp_path / "mlflow.db"):  # so that the flow waits
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **given) as worker:
            try:
                process, run_id = _await_process(prefect.url)
            finally:
                worker.kill()  # with its machine, say: else it would tell Prefect itself
        asked = subprocess.run([*reconcile, "--dry-run"], capture_output=True, text=True, check=True, **given)
        found = json.loads(asked.stdout)
        assert found["lost"] == [] and [f":{process}:" in living for living in found["living"]] == [True]
        os.kill(process, signal.SIGKILL)
    done = subprocess.run(reconcile, capture_output=True, text=True, check=True, **given)
    (lost,) = json.loads(done.stdout)["lost"]
    assert (lost["id"], lost["state"]) == (run_id, "Running") and f":{process}:" in lost["process"]
    assert [run["state_type"] for run in _runs(prefect.url)] == ["CRASHED"]
