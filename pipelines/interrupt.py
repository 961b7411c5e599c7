"""Ctrl-C and SIGTERM: the flow says that it ended, and its process ends at once, with all that it started.

Nothing finished is lost by that, and no thread of a job, which may train for hours, is waited for. Ray's processes end
with this one.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from osteo_models.core.settings import ERROR_FILE

FAREWELL_SECONDS: Final = 8.0
STDERR: Final = 2

_farewells: list[Callable[[], object]] = []


@contextlib.contextmanager
def farewell(say: Callable[[], object]) -> Iterator[None]:
    """Have something said, beside the main thread and in limited time, should the process be stopped meanwhile."""
    _farewells.append(say)
    try:
        yield
    finally:
        _farewells.remove(say)


def stop_on_signals() -> None:
    """End this process as soon as a signal asks for it.

    Prefect takes SIGTERM for itself while a flow runs, and raises it as an exception: see `leave_on_termination`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: leave(number))


@contextlib.contextmanager
def leave_on_termination() -> Iterator[None]:
    """Leave at once, instead of waiting for threads, when Prefect raises SIGTERM as an exception."""
    try:
        yield
    except Exception:
        raise
    except BaseException:  # noqa: BLE001
        leave(signal.SIGTERM)


def leave(number: int) -> None:
    """Say farewell, tell how to go on, and end; never returns."""
    try:
        # Each with the context of the main thread, which knows Prefect's server.
        context = contextvars.copy_context
        threads = [threading.Thread(target=context().run, args=[say], daemon=True) for say in _farewells]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + FAREWELL_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not os.environ.get(ERROR_FILE):  # else whoever runs the stages tells it
            text = f"stopped; what is finished is kept, and `{_own_command()}` goes on from there\n"
            os.write(STDERR, text.encode())  # not by sys.stderr, whose lock may be held
    finally:  # the terminal may be gone, or the signal have come in the midst of a write: nothing may keep us
        os._exit(128 + number)


def _own_command() -> str:
    if os.environ.get("DVC_STAGE"):
        return "dvc repro"
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return " ".join([f"python -m {module.name}" if module else sys.argv[0], *sys.argv[1:]])
