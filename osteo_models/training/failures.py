"""Why trials failed, in one line, and whether another try can help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from osteo_models.core.errors import OsteoError

MOST_FAILURES: Final = 2  # a trial whose worker dies is started again, from its checkpoint
# Of Python, PyTorch on a CPU and on a GPU, and Ray's memory monitor.
OUT_OF_MEMORY: Final = ("MemoryError", "out of memory", "can't allocate memory", "running low on memory")
NO_MEMORY: Final = "out of memory on a worker"
DEATH: Final = "its worker process died"
DIED: Final = ("ActorDiedError", "WorkerCrashedError", "died unexpectedly", "crashed", "SIGKILL")


def explain_failures(errors: Sequence[BaseException], tasks: int, where: str) -> OsteoError:
    """One error for trials or tasks that failed, with the reason of the first.

    Args:
        errors: As Ray tells them, tracebacks and all.
        tasks: How many there were.
        where: The job.
    """
    reason = name_reason(str(errors[0]))
    relief = "give the workers more memory, or fewer trials at once (`experiments.resources`), or lower `batch_size`"
    remedies = {NO_MEMORY: relief, DEATH: f"if memory ran out, {relief}"}
    remedy = next((text for head, text in remedies.items() if reason.startswith(head)), "")
    return OsteoError(f"{len(errors)} of {tasks} trials failed: {reason}", where=where, remedy=remedy)


def name_reason(text: str) -> str:
    """Why a trial failed, in one line: want of memory and a worker's death by name, all else by the last line.

    Args:
        text: As Ray tells it; of several failures of one trial, one after the other.
    """
    text = text.strip()
    if any(mark.lower() in text.lower() for mark in OUT_OF_MEMORY):
        return f"{NO_MEMORY} ({_last_line(text, OUT_OF_MEMORY)})"
    if any(mark in text for mark in DIED):
        return f"{DEATH}, {MOST_FAILURES + 1} times"
    return _last_line(text, ())


def _last_line(text: str, marks: Sequence[str]) -> str:
    """The last line that says one of the marks; without marks, the last."""
    lines = text.splitlines() or [""]
    said = [line for line in lines if any(mark.lower() in line.lower() for mark in marks)]
    return (said or lines)[-1].strip()
