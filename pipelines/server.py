"""Prefect's server for a flow: the running one, or a temporary one over the same database; and the guarded server.

The temporary server that Prefect itself starts outlives a killed flow, and Ctrl-C ends it before the flow has reported
its state. This one ends with the process that started it, and ignores Ctrl-C. The guarded server is run by
`python -m uvicorn --factory pipelines.server:create_app`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from starlette.types import ASGIApp

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.http_guard import guard
from osteo_models.core.settings import Settings, die_with_parent, load_settings
from osteo_models.ops.servers import find_prefect

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 5.0
TEMPORARY: Final = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def use_server(settings: Settings) -> Iterator[None]:
    """Point Prefect at a server for as long as the context lasts.

    Raises:
        StoreError: A temporary server does not start.
    """
    with contextlib.ExitStack() as stack:
        url = find_prefect(settings.state) or stack.enter_context(_start_temporary(settings.state / "logs"))
        # Prefect read its environment when it was imported: the address is set here.
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        yield


@contextlib.contextmanager
def _start_temporary(logs: Path) -> Iterator[str]:
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"prefect-temporary-{os.getpid()}.log"
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = ["-m", "uvicorn", "--factory"]
    command += ["prefect.server.api.server:create_app", "--host", HOST, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--log-level", "error", "--lifespan", "on"],
            env={**os.environ, **TEMPORARY},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_detach,
        )
    try:
        _await_health(process, f"http://{HOST}:{port}/api", log)
        yield f"http://{HOST}:{port}/api"
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.unlink(missing_ok=True)


def _detach() -> None:
    """In a process group of its own, and no longer than the flow's process."""
    os.setpgrp()
    die_with_parent(signal.SIGKILL)


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with httpx.Client(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/health").status_code == httpx.codes.OK:
                    return
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                found = "ended while starting" if ended else "does not answer in time"
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no message"]
                raise StoreError(f"{found}: {lines[-1]}", where="Prefect's temporary server", remedy="run it again")
            time.sleep(0.1)


def create_app() -> ASGIApp:
    """Prefect's application behind the guard, with the credentials that its own API asks for.

    Raises:
        InputError: There are no credentials to ask for.
    """
    from prefect.server.api.server import create_app as create_prefect  # takes seconds, and flows do not need it

    credentials = PREFECT_SERVER_API_AUTH_STRING.value()
    if not credentials:
        where = "PREFECT_SERVER_API_AUTH_STRING"
        raise InputError("not set", where=where, allowed="USER:PASSWORD", remedy="set it in the server's environment")
    return guard(create_prefect(final=True), load_settings().allowed_hosts, credentials)
