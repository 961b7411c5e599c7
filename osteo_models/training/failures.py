"""Failures of trials and tasks on workers: their reason in one line, and tasks that are repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from osteo_models.core.errors import OsteoError

Item = TypeVar("Item")

MAX_RETRIES: Final = 2  # of a trial or task whose worker dies; a trial continues from its checkpoint
# Words of Python, PyTorch on a CPU and on a GPU, and Ray's memory monitor.
OUT_OF_MEMORY: Final = ("MemoryError", "out of memory", "can't allocate memory", "running low on memory")
NO_MEMORY: Final = "out of memory on a worker"
DEATH: Final = "its worker process died"
DEATH_WORDS: Final = ("ActorDiedError", "WorkerCrashedError", "died unexpectedly", "crashed", "SIGKILL")


def run_tasks(
    submit: Callable[[Item], ray.ObjectRef], items: Sequence[Item], on_done: Callable[[Item, Any], None]
) -> list[BaseException]:
    """Run one task per item, all to their end; give the errors of those that failed.

    A task whose worker dies is started again; one that raises is not. Ray's own retries have no limit for tasks that
    its memory monitor killed.
    """
    waiting = {submit(item): (item, 0) for item in items}
    errors: list[BaseException] = []
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            item, failures = waiting.pop(ready)
            try:
                on_done(item, ray.get(ready))
            except RayError as error:
                if isinstance(error, RayTaskError) or failures == MAX_RETRIES:
                    errors.append(error)
                else:
                    waiting[submit(item)] = (item, failures + 1)
    finally:
        for ready in waiting:  # only after an exception, such as Ctrl-C
            ray.cancel(ready, force=True)  # a worker interrupted during its imports would fail from then on
    return errors


def explain_failures(errors: Sequence[BaseException], tasks: int, where: str) -> OsteoError:
    """One error for trials or tasks that failed, with the reason of the first.

    Args:
        errors: As Ray reports them, with tracebacks.
        tasks: Number of trials or tasks.
        where: The job.
    """
    reason = name_reason(str(errors[0]))
    relief = "give the workers more memory, or fewer trials at once (`experiments.resources`), or lower `batch_size`"
    remedies = {NO_MEMORY: relief, DEATH: f"if memory ran out, {relief}"}
    remedy = next((text for head, text in remedies.items() if reason.startswith(head)), "")
    return OsteoError(f"{len(errors)} of {tasks} trials failed: {reason}", where=where, remedy=remedy)


def is_out_of_memory(text: str) -> bool:
    """Whether an error's text reports a lack of memory."""
    return any(word.lower() in text.lower() for word in OUT_OF_MEMORY)


def name_reason(text: str) -> str:
    """Why a trial failed, in one line: lack of memory, a worker's death, or the last line of the text.

    Args:
        text: As Ray reports it; several failures of one trial follow each other.
    """
    lines = text.strip().splitlines() or [""]
    if memory := [line.strip() for line in lines if is_out_of_memory(line)]:
        return f"{NO_MEMORY} ({memory[-1]})"
    if any(word in text for word in DEATH_WORDS):
        return f"{DEATH}, {MAX_RETRIES + 1} times"
    return lines[-1].strip()
