"""Processes that outlive the command that starts them: recognised by number and start time, ended as a group."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from osteo_models.core.errors import StoreError

HOST: Final = "127.0.0.1"
PORTS_TRIED: Final = 100
FULL_BYTES: Final = 2**20
STOP_SECONDS: Final = 20.0  # SeaweedFS takes 15 to put everything down
NOT_RUNNING: Final = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass(frozen=True)
class Server:
    """A server and how to recognise its process.

    Attributes:
        pid: Of the first process; it leads the group that holds the others.
        started: Start time of every process of the group by its number, in seconds since 1970.
        log: File that its output goes to.
        stop_signal: What it takes as the wish to end soon.
    """

    name: str
    url: str
    pid: int
    started: Mapping[int, float]
    log: str
    stop_signal: int = signal.SIGTERM


@dataclass(frozen=True)
class Account:
    """Numbers of a system account and its group."""

    user: int
    group: int


def name_process() -> str:
    """This process, distinguished from all others: host, number and start time."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(name: str) -> bool:
    """Whether a process that `name_process` named has ended; of one on another host this is unknown."""
    host, pid, started = name.rsplit(":", 2)
    return host == platform.node() and not find_living(Server("", "", int(pid), {int(pid): float(started)}, ""))


def is_full(folder: Path) -> bool:
    """Whether the disk below a folder holds no further file of any size."""
    return shutil.disk_usage(folder).free < FULL_BYTES


def find_port(preferred: int, taken: Container[str]) -> int:
    """The first free port from `preferred` on that is in none of the addresses in `taken`.

    Raises:
        StoreError: None of the next hundred is free.
    """
    for port in range(preferred, preferred + PORTS_TRIED):
        if f"http://{HOST}:{port}" in taken:  # a server that is only about to listen there
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise StoreError(f"no free port from {preferred} to {preferred + PORTS_TRIED - 1}", remedy="free one of them")


def note_group(server: Server) -> Server:
    """Note every process of the group: should the first be killed, the others can still be recognised."""
    started = dict(server.started)
    for known in find_living(server).values():
        for process in known.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(process.pid) == server.pid:
                    started[process.pid] = process.create_time()
    return replace(server, started=started)


def find_living(server: Server) -> dict[int, psutil.Process]:
    """The server's processes that still run, recognised by number and start time."""
    found: dict[int, psutil.Process] = {}
    for pid, started in server.started.items():
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - started) < 0.5 and process.status() not in NOT_RUNNING:
                found[pid] = process
        except psutil.NoSuchProcess:
            continue
    return found


def stop_groups(servers: Sequence[Server]) -> None:
    """End the groups politely, then by force."""
    ending = [note_group(server) for server in servers]
    for forced in (False, True):
        for server in ending:
            if find_living(server):
                with contextlib.suppress(ProcessLookupError):  # it ended just now
                    os.killpg(server.pid, signal.SIGKILL if forced else server.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while any(find_living(server) for server in ending) and time.monotonic() < deadline:
            time.sleep(0.05)
