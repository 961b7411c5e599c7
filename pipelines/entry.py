"""Runs a flow from the command line: exit codes, one line per error, and an orderly end on Ctrl-C and SIGTERM.

A stopped process runs its shutdown callbacks and exits at once: nothing finished is lost, no training thread is waited
for, and Ray's processes end with this one.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import click
import httpx

from osteo_models.core.errors import OsteoError, StoreError
from osteo_models.core.processes import is_full, name_process
from osteo_models.core.settings import ERROR_FILE, die_with_parent
from osteo_models.registry.run_context import RunContext
from pipelines.reconcile import find_lost, mark_crashed, reconcile, tag_owner
from pipelines.server import use_server

SHUTDOWN_SECONDS: Final = 8.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
STDERR: Final = 2

_callbacks: list[Callable[[], object]] = []


def main(flow: Callable[[], object]) -> None:
    """Run a flow as a DVC stage does, and exit: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C.

    A flow makes its run context itself: Prefect stores its parameters, and settings hold passwords.
    """
    context = RunContext()
    settings = context.settings
    stop_on_signals()
    if settings.die_with_parent:
        die_with_parent(signal.SIGINT)
    try:
        _run(flow, context)
    except OsteoError as error:
        _fail(error)
    except httpx.TransportError as error:
        remedy = "start it with `osteo up`, or unset PREFECT_API_URL; then run the same command again"
        _fail(StoreError(f"Prefect's server does not answer ({error})", where="PREFECT_API_URL", remedy=remedy))
    except Exception as error:
        if not is_full(settings.state):
            raise
        remedy = "free some space, then run the same command again: what is finished is kept"
        _fail(OsteoError(f"no space is left ({type(error).__name__})", where=str(settings.state), remedy=remedy))


def _run(flow: Callable[[], object], context: RunContext) -> None:
    _ = context.params  # a fault in params.yaml is reported before a server starts
    with use_server(context.settings), on_shutdown(_mark_own_runs), tag_owner():
        for lost in reconcile():
            say(f"  flow run {lost.flow} had lost its process: marked as crashed")
        flow()


def _fail(error: OsteoError) -> NoReturn:
    if file := os.environ.get(ERROR_FILE):  # the command that runs the stages reports it
        Path(file).write_text(json.dumps({"text": str(error), "exit_code": error.exit_code}), encoding="utf-8")
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def _mark_own_runs() -> None:
    own = name_process()
    for lost in find_lost(ended={own}):
        if lost.process == own:
            mark_crashed(lost, "stopped; the same command goes on where it was")


def say(text: str) -> None:
    """Print one plain line."""
    click.echo(text)


@contextlib.contextmanager
def on_shutdown(callback: Callable[[], object]) -> Iterator[None]:
    """Call a function in a thread of its own, with a time limit, if the process is stopped inside this context."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def stop_on_signals() -> None:
    """Shut this process down on the first SIGINT or SIGTERM; a terminal and a parent process may both send one.

    Prefect handles SIGTERM itself while a flow runs, and raises it as an exception: see `exit_on_termination`.
    """
    for number in SIGNALS:
        signal.signal(number, lambda number, _: shut_down(number))


@contextlib.contextmanager
def exit_on_termination() -> Iterator[None]:
    """Exit at once, instead of waiting for threads, when Prefect raises SIGTERM as an exception."""
    try:
        yield
    except Exception:
        raise
    except BaseException:  # noqa: BLE001
        shut_down(signal.SIGTERM)


def shut_down(number: int) -> None:
    """Run the shutdown callbacks, report how to continue, and exit; never returns."""
    with contextlib.suppress(ValueError):  # Prefect may call this in another thread
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
    try:
        # In a copy of the main thread's context, which has the address of Prefect's server.
        context = contextvars.copy_context
        threads = [threading.Thread(target=context().run, args=[callback], daemon=True) for callback in _callbacks]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not os.environ.get(ERROR_FILE):  # otherwise the command that runs the stages reports it
            text = f"stopped; what is finished is kept, and `{_own_command()}` goes on from there\n"
            os.write(STDERR, text.encode())  # not by sys.stderr, whose lock may be held
    finally:  # even if the terminal is gone, or the signal came during a write
        os._exit(128 + number)


def _own_command() -> str:
    if os.environ.get("DVC_STAGE"):
        return "dvc repro"
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return " ".join([f"python -m {module.name}" if module else sys.argv[0], *sys.argv[1:]])
