"""Runs the DVC stages of one command as forks of a process that has already imported what they need.

Importing Prefect, MLflow, PyTorch and Ray takes every stage several seconds. `ops.dvc_stages` starts a host together
with DVC; `python -m pipelines.<stage>`, which DVC starts, connects to the host, which forks a process for the stage.
The host imports while stages work, and nothing before the first one: where all stages are up to date, it costs nothing.
Without a host, which needs Linux, every stage is a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from osteo_models.core.settings import STAGE_HOST, die_with_parent, disable_gc

MESSAGE_BYTES: Final = 2**20
STANDARD_FILES: Final = (0, 1, 2)
LISTENER: Final = 0  # the file descriptor of the socket that the host inherits
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_in_host() -> None:
    """Run this command, `python -m pipelines.<stage>`, in the host, and exit with its code.

    Returns where there is no host, or where code has changed since the host started. Signals are passed on to the
    stage, which is killed when this process is.
    """
    address, command = os.environ.pop(STAGE_HOST, ""), sys.orig_argv[1:]
    if not address or len(command) != 2 or command[0] != "-m":
        return
    request = {"module": command[1], "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(address)
            socket.send_fds(connection, [json.dumps(request).encode()], STANDARD_FILES)
            stage = int(connection.recv(MESSAGE_BYTES) or 0)
        except OSError:  # the host has ended
            return
        if not stage:
            return
        for number in SIGNALS:
            signal.signal(number, lambda number, _: _send_signal(stage, number))
        if os.environ.get("OSTEO_DIE_WITH_PARENT") == "1":
            die_with_parent(signal.SIGINT)
        with contextlib.suppress(OSError):
            os._exit(int(connection.recv(MESSAGE_BYTES)))
        os._exit(128 + signal.SIGKILL)


def main() -> None:
    """Serve one stage after another, in a process that ends with the one that started it."""
    disable_gc()
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage
    stages = _list_modules()
    began, waiting = time.time_ns(), [*stages[1:], stages[0]]  # the first one has been asked for by then
    listener = socket.socket(fileno=LISTENER)
    while True:
        connection, _ = listener.accept()
        content, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, len(STANDARD_FILES))
        request = json.loads(content)
        if request["module"] not in stages or not _is_current(began):
            connection.send(b"")
        elif stage := os.fork():
            connection.send(str(stage).encode())
            _await_stage(stage, connection, waiting)
        else:
            listener.detach()
            connection.close()
            return _run(request, files)
        connection.close()
        for file in files:
            os.close(file)


def _list_modules() -> list[str]:
    import yaml  # a stage that only connects does not need it

    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [f"pipelines.{stage}" for stage in stages]


def _is_current(began: int) -> bool:
    """Whether no imported file of the project has changed since the host began."""
    packages = ("osteo_models", "pipelines")
    files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] in packages]
    return all(Path(file).stat().st_mtime_ns < began for file in files if file)


def _await_stage(stage: int, connection: socket.socket, modules: list[str]) -> None:
    """Send a stage's exit code to its client, and import what is left of the modules meanwhile."""
    ended = os.pidfd_open(stage)
    try:
        while not (ready := select.select([ended, connection], [], [], 0 if modules else None)[0]):
            with contextlib.suppress(Exception):  # the stage itself will report it
                importlib.import_module(modules.pop(0))
            gc.freeze()  # the pages of what is imported stay shared with the stages
        if ended not in ready:  # the client was killed
            _send_signal(stage, signal.SIGKILL)
        _, status = os.waitpid(stage, 0)
    finally:
        os.close(ended)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        connection.send(str(code if code >= 0 else 128 - code).encode())


def _send_signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _run(request: dict[str, Any], files: list[int]) -> None:
    """Become the stage's process: its signals, its terminal, its folder, its environment."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for source, target in zip(files, STANDARD_FILES, strict=True):
        os.dup2(source, target)
        os.close(source)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    from pipelines.entry import main  # imports Prefect

    module = importlib.import_module(request["module"])
    main(getattr(module, request["module"].rpartition(".")[2]))
