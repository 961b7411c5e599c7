"""Starts servers, waits until they answer, finds them again, stops them.

`servers.json` in a folder says which processes they are, with their start times: a number that the system has given to
another process since is never touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from osteo_models.core.errors import StoreError
from osteo_models.core.files import hold_lock, write_atomically
from osteo_models.core.processes import (
    HOST,
    Account,
    Server,
    find_living,
    find_port,
    note_group,
    stop_groups,
)
from osteo_models.core.settings import silence_telemetry

START_SECONDS: Final = 120.0
LOG_TAIL_LINES: Final = 15
SECRETS: Final = "OSTEO_SECRET_"  # variables that give the cluster profile its passwords and keys


@dataclass(frozen=True)
class Service:
    """A server to be started.

    Attributes:
        answers: Whether it serves; asked again and again.
        stop_signal: What it takes as the wish to end soon.
        account: Another account to run under.
        follows: Name of the server with which it must start again.
        prepare: What is to be done just before it starts.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    url: str
    answers: Callable[[Server], bool]
    stop_signal: int = signal.SIGTERM
    account: Account | None = None
    follows: str | None = None
    prepare: Callable[[], None] | None = None


Step = Callable[[Mapping[str, int]], Sequence[Service]]


def launch(
    folder: Path, ports: Mapping[str, int], steps: Iterable[Step], *, timeout_seconds: float = START_SECONDS
) -> dict[str, Server]:
    """Start what is not running yet, step by step; one command at a time does so in a folder.

    Args:
        folder: Holds `logs` and `servers.json`.
        ports: Preferred port by name; the next free one is taken where it is in use. A server that was started here
            before and has been killed keeps its port, for others know it.
        steps: Each is given the ports, prepares what its services need, and is asked once those before it serve.
        timeout_seconds: For one step.

    Returns:
        All servers of the folder by name, those of the steps first and in their order.

    Raises:
        StoreError: A server ended or did not answer in time; it shows the end of its log. What this call started
            is stopped again.
    """
    folder = folder.absolute()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with hold_lock(folder / "servers.json.lock"):
        known = {server.name: server for server in _read(folder)}
        running = {name: server for name, server in known.items() if server.pid in find_living(server)}
        stop_groups([server for name, server in known.items() if name not in running])  # what a killed one left
        chosen = _choose_ports(ports, known)
        new: dict[str, Server] = {}
        order: list[str] = []
        try:
            for step in steps:
                services = step(chosen)
                _start(folder, services, running, new)
                _await_answers(services, {**running, **new}, time.monotonic() + timeout_seconds)
                order += [service.name for service in services]
        except BaseException:
            stop_groups(list(new.values()))
            _write(folder, list(running.values()))
            raise
        found = {name: note_group(server) for name, server in {**running, **new}.items()}
        servers = {name: found[name] for name in [*order, *(name for name in found if name not in order)]}
        _write(folder, list(servers.values()))
        return servers


def stop_servers(folder: Path) -> list[Server]:
    """Stop the servers that were started over this folder, with their whole process groups.

    Returns:
        Those that were running.
    """
    folder = folder.absolute()
    if not (folder / "servers.json").is_file():
        return []
    with hold_lock(folder / "servers.json.lock"):
        running = [server for server in _read(folder) if find_living(server)]
        stop_groups(running)
        _write(folder, [])
        return running


def forget_servers(folder: Path) -> None:
    """Stop what is left of servers whose first process has ended, and forget them; those that run are kept."""
    folder = folder.absolute()
    with hold_lock(folder / "servers.json.lock"):
        known = _read(folder)
        ended = [server for server in known if server.pid not in find_living(server)]
        stop_groups(ended)
        _write(folder, [server for server in known if server not in ended])


def running_servers(folder: Path) -> list[Server]:
    """The servers whose first process lives; one that was killed in parts is not running."""
    return [server for server in _read(folder.absolute()) if server.pid in find_living(server)]


def child_environment(*own_prefixes: str) -> dict[str, str]:
    """This process's environment without the tool's own settings, which point at other servers."""
    left_out = (*own_prefixes, SECRETS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    silence_telemetry(environment)
    # The state folder is the servers' working directory, and files in it must not be imported.
    return environment | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def answers_at(path: str) -> Callable[[Server], bool]:
    """Whether a server says 200 at a path of its address."""

    def ask(server: Server) -> bool:
        try:
            with urllib.request.urlopen(server.url + path, timeout=2) as reply:
                return reply.status == 200
        except OSError:
            return False

    return ask


def python_module(name: str, *arguments: str) -> list[str]:
    """A command that runs a module of this environment."""
    return [sys.executable, "-m", name, *arguments]


def _choose_ports(preferred: Mapping[str, int], known: Mapping[str, Server]) -> dict[str, int]:
    ports = {name: int(known[name].url.rpartition(":")[2]) for name in preferred if name in known}
    for name, port in preferred.items():
        if name not in ports:
            ports[name] = find_port(port, {f"http://{HOST}:{taken}" for taken in ports.values()})
    return ports


def _start(folder: Path, services: Sequence[Service], running: dict[str, Server], new: dict[str, Server]) -> None:
    for service in services:
        if service.name in running:
            if service.follows not in new:
                continue
            stop_groups([running.pop(service.name)])
        if service.prepare:
            service.prepare()
        new[service.name] = _spawn(service, folder)
        _write(folder, [*running.values(), *new.values()])


def _spawn(service: Service, folder: Path) -> Server:
    log = folder / "logs" / f"{service.name}.log"
    account = service.account
    with log.open("wb") as output:
        process = subprocess.Popen(
            service.command,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=() if account else None,
        )
    process.returncode = 0  # it outlives this command, which does not wait for it
    started = {process.pid: psutil.Process(process.pid).create_time()}
    return Server(service.name, service.url, process.pid, started, str(log), int(service.stop_signal))


def _await_answers(services: Sequence[Service], servers: Mapping[str, Server], deadline: float) -> None:
    waiting = list(services)
    while waiting:
        waiting = [service for service in waiting if not service.answers(servers[service.name])]
        for server in (servers[service.name] for service in waiting):
            ended = server.pid not in find_living(server)
            if ended or time.monotonic() > deadline:
                found = "ended while starting" if ended else "does not answer in time"
                remedy = f"run `osteo down` and `osteo up` again; end of {server.log}:\n{_log_tail(server)}"
                raise StoreError(found, where=f"{server.name} server", remedy=remedy)
        if waiting:
            time.sleep(0.1)


def _log_tail(server: Server) -> str:
    lines = Path(server.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])


def _read(folder: Path) -> list[Server]:
    path = folder / "servers.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Server(**row | {"started": {int(k): v for k, v in row["started"].items()}}) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        remedy = "end the servers by hand, then delete the file"
        raise StoreError("not a list of servers", where=str(path), remedy=remedy) from None


def _write(folder: Path, servers: Sequence[Server]) -> None:
    path = folder / "servers.json"
    write_atomically(path, json.dumps([asdict(server) for server in servers], indent=2))
