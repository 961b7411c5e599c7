"""MLflow's and Prefect's servers over the embedded stores: what `osteo up` starts on one machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final, NoReturn

from osteo_models.core.processes import HOST, Server
from osteo_models.core.settings import embedded_store, silence_telemetry
from osteo_models.ops.servers.launch import (
    START_SECONDS,
    Service,
    answers_at,
    child_environment,
    launch,
    python_module,
    running_servers,
)
from osteo_models.ops.servers.topology import HEALTH, PORTS

PREFERRED_PORTS: Final = {name: PORTS[name] for name in ("mlflow", "prefect")}
MLFLOW_HEALTH: Final = HEALTH["mlflow"]
PREFECT_HEALTH: Final = HEALTH["prefect"]


def start_servers(
    state_dir: Path, *, ports: Mapping[str, int] = PREFERRED_PORTS, timeout_seconds: float = START_SECONDS
) -> list[Server]:
    """Start what is not running yet, and wait until everything answers.

    Args:
        state_dir: Holds `mlartifacts`, `prefect`, `logs` and `servers.json`; for the store see `embedded_store`.
        ports: Preferred port by server name.
        timeout_seconds: For all of them together.

    Raises:
        StoreError: A server ended or did not answer in time; it shows the end of its log.
    """
    state_dir = state_dir.absolute()
    state_dir.mkdir(parents=True, exist_ok=True)

    def services(chosen: Mapping[str, int]) -> list[Service]:
        return [(_mlflow if name == "mlflow" else _prefect)(state_dir, chosen[name]) for name in ports]

    servers = launch(state_dir, ports, [services], timeout_seconds=timeout_seconds)
    return [servers[name] for name in ports]


def find_prefect(state_dir: Path, environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Point Prefect at the server that `osteo up` started, unless the caller has chosen one.

    Returns:
        The address in force; None where Prefect will start a temporary server.
    """
    if not environ.get("PREFECT_API_URL"):
        for server in running_servers(state_dir):
            if server.name == "prefect" and answers_at(PREFECT_HEALTH)(server):
                environ["PREFECT_API_URL"] = f"{server.url}/api"
    return environ.get("PREFECT_API_URL")


def _mlflow(state_dir: Path, port: int) -> Service:
    environment = child_environment("MLFLOW_")
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # evaluation of language models: unused here
    places = (str(embedded_store(state_dir)), str(state_dir / "mlartifacts"))
    options = ("--host", HOST, "--port", str(port), "--workers", "1")
    command = python_module("osteo_models.registry.embedded_store", *places, *options)
    return Service("mlflow", command, environment, f"http://{HOST}:{port}", answers_at(MLFLOW_HEALTH))


def _prefect(state_dir: Path, port: int) -> Service:
    environment = child_environment("PREFECT_")
    environment |= {
        "PREFECT_HOME": str(state_dir / "prefect"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",  # the page in the browser asks here
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    command = python_module("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return Service("prefect", command, environment, f"http://{HOST}:{port}", answers_at(PREFECT_HEALTH))


def serve_model(package: Path, port: int) -> int:
    """Serve the package of a version by MLflow's scoring server on loopback, in the foreground, without pickles.

    Returns:
        The server's exit code.
    """
    environment = dict(os.environ)
    silence_telemetry(environment)
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # bytecode beside the code would be no file of the package
    # MLflow starts `uvicorn` by its name, which only an activated environment has on its path.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    command = ["mlflow", "models", "serve", "--model-uri", str(package), "--env-manager", "local"]
    command += ["--host", HOST, "--port", str(port)]
    with subprocess.Popen([sys.executable, "-m", *command], env=environment, start_new_session=True) as server:
        before = signal.signal(signal.SIGTERM, _leave)
        try:
            return server.wait()
        except (KeyboardInterrupt, SystemExit):
            return 0
        finally:  # the server starts a process of its own, which would outlive it
            signal.signal(signal.SIGTERM, before)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
