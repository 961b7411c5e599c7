"""MLflow's and Prefect's servers on this machine, over the embedded stores: started, found again, stopped.

They outlive the command that starts them. `servers.json` in the state folder says which processes they are, with their
start times: a number that the system has given to another process since is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, NoReturn

import psutil

from osteo_models.errors import StoreError
from osteo_models.processes import HOST, Server, find_living, find_port, hold_lock, note_group, stop_groups
from osteo_models.settings import silence_telemetry

PREFERRED_PORTS: Final = {"mlflow": 5000, "prefect": 4200}
HEALTH_PATHS: Final = {"mlflow": "/health", "prefect": "/api/health"}
START_SECONDS: Final = 120.0
LOG_TAIL_LINES: Final = 15


def store_lock(database: Path) -> contextlib.AbstractContextManager[None]:
    """The lock under which an MLflow store is made or migrated, by whoever comes first."""
    return hold_lock(database.with_name(f"{database.name}.lock"))


def start_servers(
    state_dir: Path, *, ports: Mapping[str, int] = PREFERRED_PORTS, timeout_seconds: float = START_SECONDS
) -> list[Server]:
    """Start what is not running yet, and wait until everything answers.

    Args:
        state_dir: Holds `mlflow.db`, `mlartifacts`, `prefect`, `logs` and `servers.json`.
        ports: Preferred port by server name; the next free one is taken where it is in use.
        timeout_seconds: For all of them together.

    Raises:
        StoreError: A server ended or did not answer in time; it shows the end of its log. What this call started
            is stopped again.
    """
    state_dir = state_dir.absolute()
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
    with hold_lock(state_dir / "servers.json.lock"):
        known = _read(state_dir)
        running = {server.name: server for server in known if server.pid in find_living(server)}
        stop_groups([server for server in known if server.name not in running])  # what a killed one left behind
        new: dict[str, Server] = {}
        database = state_dir / "mlflow.db"
        # The server migrates an empty database itself; nobody else may do so meanwhile.
        with store_lock(database):
            try:
                for name, port in ports.items():
                    if name not in running:
                        taken = {server.url for server in [*running.values(), *new.values()]}
                        new[name] = _spawn(name, state_dir, find_port(port, taken))
                        _write(state_dir, [*running.values(), *new.values()])
                _await_health([*running.values(), *new.values()], time.monotonic() + timeout_seconds)
            except BaseException:
                stop_groups(list(new.values()))
                _write(state_dir, list(running.values()))
                raise
        servers = {name: note_group(server) for name, server in {**running, **new}.items()}
        _write(state_dir, list(servers.values()))
        return [servers[name] for name in ports]


def stop_servers(state_dir: Path) -> list[Server]:
    """Stop the servers that were started over this folder, with their whole process groups.

    Returns:
        Those that were running.
    """
    state_dir = state_dir.absolute()
    if not (state_dir / "servers.json").is_file():
        return []
    with hold_lock(state_dir / "servers.json.lock"):
        running = [server for server in _read(state_dir) if find_living(server)]
        stop_groups(running)
        _write(state_dir, [])
        return running


def running_servers(state_dir: Path) -> list[Server]:
    """The servers whose first process lives; one that was killed in parts is not running."""
    return [server for server in _read(state_dir.absolute()) if server.pid in find_living(server)]


def find_prefect(state_dir: Path, environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Point Prefect at the server that `osteo up` started, unless the caller has chosen one.

    Returns:
        The address in force; None where Prefect will start a temporary server.
    """
    if not environ.get("PREFECT_API_URL"):
        for server in running_servers(state_dir):
            if server.name == "prefect" and _answers(server):
                environ["PREFECT_API_URL"] = f"{server.url}/api"
    return environ.get("PREFECT_API_URL")


def serve_model(model_uri: str, tracking_uri: str, port: int) -> int:
    """Serve a registered version by MLflow's scoring server on loopback, in the foreground, with pickles switched off.

    Returns:
        The server's exit code.
    """
    environment = dict(os.environ)
    silence_telemetry(environment)
    environment |= {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # versions of earlier releases left it beside their code
    # MLflow starts `uvicorn` by its name, which only an activated environment has on its path.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    command = ["mlflow", "models", "serve", "--model-uri", model_uri, "--env-manager", "local"]
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


def _spawn(name: str, state_dir: Path, port: int) -> Server:
    log = state_dir / "logs" / f"{name}.log"
    command, environment = _mlflow(state_dir, port) if name == "mlflow" else _prefect(state_dir, port)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=state_dir,
            start_new_session=True,
        )
    process.returncode = 0  # it outlives this command: nobody here waits for it
    started = {process.pid: psutil.Process(process.pid).create_time()}
    return Server(name, f"http://{HOST}:{port}", process.pid, started, str(log))


def _mlflow(state_dir: Path, port: int) -> tuple[list[str], dict[str, str]]:
    environment = _environment("MLFLOW_")
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # evaluation of language models: unused here
    store, artifacts = f"sqlite:///{state_dir / 'mlflow.db'}", (state_dir / "mlartifacts").as_uri()
    command = ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, *command, "--backend-store-uri", store, "--artifacts-destination", artifacts], environment


def _prefect(state_dir: Path, port: int) -> tuple[list[str], dict[str, str]]:
    environment = _environment("PREFECT_")
    environment |= {
        "PREFECT_HOME": str(state_dir / "prefect"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",  # the page in the browser asks here
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    command = ["-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return [sys.executable, *command], environment


def _environment(own_prefix: str) -> dict[str, str]:
    """This process's environment without the tool's own settings, which point at other servers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own_prefix)}
    silence_telemetry(environment)
    # The state folder is the servers' working directory, and what lies in it must not be imported.
    return environment | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def _await_health(servers: Sequence[Server], deadline: float) -> None:
    waiting = list(servers)
    while waiting:
        waiting = [server for server in waiting if not _answers(server)]
        for server in waiting:
            ended = server.pid not in find_living(server)
            if ended or time.monotonic() > deadline:
                found = "ended while starting" if ended else "does not answer in time"
                remedy = f"run `osteo down` and `osteo up` again; end of {server.log}:\n{_log_tail(server)}"
                raise StoreError(found, where=f"{server.name} server", remedy=remedy)
        if waiting:
            time.sleep(0.1)


def _answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(server.url + HEALTH_PATHS[server.name], timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def _log_tail(server: Server) -> str:
    lines = Path(server.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])


def _read(state_dir: Path) -> list[Server]:
    path = state_dir / "servers.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Server(**row | {"started": {int(k): v for k, v in row["started"].items()}}) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        remedy = "end the servers by hand, then delete the file"
        raise StoreError("not a list of servers", where=str(path), remedy=remedy) from None


def _write(state_dir: Path, servers: Sequence[Server]) -> None:
    path = state_dir / "servers.json"
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps([asdict(server) for server in servers], indent=2), encoding="utf-8")
    fresh.replace(path)
