"""Writes to the store in order and beside the work: while a tracking server is away they wait, and the work goes on."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, Final, ParamSpec, TypeVar

from osteo_models.core.errors import StoreError
from osteo_models.registry.store import disable_client_retries, hide_password, is_away
from osteo_models.registry.tracking import Tracking

PATIENCE_SECONDS: Final = 120.0  # for a server that is still away when the work is done
PAUSE_SECONDS: Final = 1.0
REMEDY: Final = "every result is kept: once the server is up, the same command writes what is missing"

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """One thread that does one write after another; every write must be such that it can be repeated.

    The thread ends with the process: MLflow's client, too, waits for a server, and the process must not wait for that.

    Args:
        patience_seconds: How long `finish` waits for a server that does not answer.
    """

    def __init__(self, tracking: Tracking, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.tracking, self._uri, self._patience = tracking, tracking.uri, patience_seconds
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._writings: list[Future[Any]] = []
        self._stopped, self._given_up = threading.Event(), False
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def submit(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a write; what it raises is raised by the future and by `finish`."""
        future: Future[T] = Future()
        self._writings.append(future)
        self._queue.put((future, lambda: write(*args, **kwargs)))
        return future

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            StoreError: Of the first write that failed; or the server stays away.
        """
        deadline = time.monotonic() + (0 if self._given_up else self._patience)
        for writing in self._writings:
            while wait([writing], PAUSE_SECONDS).not_done:
                if time.monotonic() > deadline and is_away(self._uri):
                    self._given_up = True  # it is not waited for twice
                    raise StoreError("the MLflow server does not answer", where=hide_password(self._uri), remedy=REMEDY)
            writing.result()

    def stop(self) -> None:
        """Begin no further write."""
        self._stopped.set()
        self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) and not self._stopped.is_set():
            future, write = item
            try:
                future.set_result(self._repeat(write))
            except BaseException as error:  # noqa: BLE001  # raised by the future
                future.set_exception(error)

    def _repeat(self, write: Callable[[], T]) -> T:
        """Write; again and again while the server is away, and once more when it answers."""
        answered = False
        while True:
            try:
                return write()
            except StoreError:
                away = is_away(self._uri)
                # It failed though the server answers. The first time, the server may have come back just now.
                if self._stopped.is_set() or (answered and not away):
                    raise
                answered = not away
                if away:
                    log.warning("%s: the MLflow server does not answer; the work goes on", hide_password(self._uri))
                while away and not self._stopped.wait(PAUSE_SECONDS):
                    away = is_away(self._uri)


@contextlib.contextmanager
def open_writer(tracking: Tracking) -> Iterator[Writer]:
    """A writer that has written everything when the context ends; by an error, what it had time for.

    Raises:
        StoreError: As `Writer.finish`.
    """
    disable_client_retries()
    writer = Writer(tracking)
    try:
        yield writer
    except Exception:
        with contextlib.suppress(StoreError):
            writer.finish()
        raise
    else:
        writer.finish()
    finally:
        writer.stop()
