"""Why trials failed, in one line, and whether another try can help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from osteo_models.errors import OsteoError

MOST_FAILURES: Final = 2  # a trial whose worker dies is started again, from its checkpoint
# Of Python, PyTorch on a CPU and on a GPU, and Ray's memory monitor.
OUT_OF_MEMORY: Final = ("MemoryError", "out of memory", "can't allocate memory", "running low on memory")
DIED: Final = ("ActorDiedError", "WorkerCrashedError", "died unexpectedly", "crashed", "SIGKILL")


def explain_failures(errors: Sequence[BaseException], tasks: int, where: str) -> OsteoError:
    """One error for trials or tasks that failed, with the reason of the first.

    Args:
        errors: As Ray tells them, tracebacks and all.
        tasks: How many there were.
        where: The job.
    """
    text = str(errors[0]).strip()
    found = f"{len(errors)} of {tasks} trials failed: "
    relief = "give the workers more memory, or fewer trials at once (`experiments.resources`), or lower `batch_size`"
    if any(mark.lower() in text.lower() for mark in OUT_OF_MEMORY):
        found += f"out of memory on a worker ({_last_line(text, OUT_OF_MEMORY)})"
        return OsteoError(found, where=where, remedy=relief)
    if any(mark in text for mark in DIED):
        found += f"its worker process died, {MOST_FAILURES + 1} times"
        return OsteoError(found, where=where, remedy=f"if memory ran out, {relief}")
    return OsteoError(found + _last_line(text, ()), where=where)


def _last_line(text: str, marks: Sequence[str]) -> str:
    """The last line that says one of the marks; without marks, the last."""
    lines = text.splitlines() or [""]
    said = [line for line in lines if any(mark.lower() in line.lower() for mark in marks)]
    return (said or lines)[-1].strip()
