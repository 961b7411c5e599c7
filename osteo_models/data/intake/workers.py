"""Worker processes: a file that hangs, crashes or takes too much memory ends its worker, never the import."""

from __future__ import annotations

import logging
import os
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from osteo_models.core.settings import die_with_parent
from osteo_models.data.reasons import RejectedInput

MEMORY_BYTES: Final = 1 << 30  # of one worker
SECONDS: Final = 5.0  # for one file
BATCH_FILES: Final = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch(Generic[Item]):
    """Items that go to a worker together, and its time limit."""

    items: list[Item]
    seconds: float = SECONDS


@contextmanager
def open_workers(count: int) -> Iterator[ProcessPool]:
    """Worker processes with bounded memory, which end with this context or with this process."""
    pool = ProcessPool(max_workers=count, context=get_context("forkserver"), initializer=_limit)
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _limit() -> None:
    die_with_parent()
    # The DICOM library logs odd values and decoders print; either may be a name.
    logging.disable(logging.CRITICAL)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
    # Data, not address space: libraries map far more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


def run_batches(
    pool: ProcessPool, function: Callable[[list[Item]], list[Result]], batches: Iterable[Batch[Item]], *, ahead: int
) -> Iterator[list[tuple[Item, Result | RejectedInput]]]:
    """Run batches, a bounded number ahead; a batch that fails is tried again item by item to find the one at fault.

    Args:
        pool: From `open_workers`.
        function: Takes the items of a batch and gives as many results; must be importable by name.
        batches: Taken one by one, so that the source is never listed as a whole.
        ahead: Batches in flight.
    """
    waiting: deque[tuple[Batch[Item], Future[Any]]] = deque()
    source = iter(batches)
    retries: deque[Batch[Item]] = deque()
    while True:
        while len(waiting) < ahead:
            batch = retries.popleft() if retries else next(source, None)
            if batch is None:
                break
            waiting.append((batch, pool.schedule(function, args=[batch.items], timeout=batch.seconds)))
        if not waiting:
            return
        batch, future = waiting.popleft()
        try:
            yield list(zip(batch.items, future.result(), strict=True))
        except (TimeoutError, ProcessExpired, MemoryError) as error:
            if len(batch.items) > 1:
                retries.extend(Batch([item], batch.seconds) for item in batch.items)
            else:
                yield [(batch.items[0], RejectedInput("timeout" if isinstance(error, TimeoutError) else "crashed"))]


def batch_by_size(
    items: Iterable[Item], size: Callable[[Item], int], most_bytes: int = 16_000_000
) -> Iterator[Batch[Item]]:
    """Batches of up to 32 items and `most_bytes`, so that a batch takes well under its time."""
    batch: list[Item] = []
    total = 0
    for item in items:
        if batch and (len(batch) >= BATCH_FILES or total + size(item) > most_bytes):
            yield Batch(batch)
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield Batch(batch)
