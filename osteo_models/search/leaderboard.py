"""What a search found: its candidates, the winner, the Pareto front, and how well the workers were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Timing:
    """When a worker was at a candidate; seconds since 1970 by the worker's clock.

    Attributes:
        session: Start of the search's process, which tells restarts apart.
        worker: Process on a machine.
        training_seconds: Spent in training and testing; the rest between `started` and `ended` is overhead.
    """

    session: float
    worker: str
    started: float
    ended: float
    training_seconds: float


@dataclass(frozen=True)
class Session:
    """One run of the search's process: its start, and how many candidates it could train at once."""

    started: float
    slots: int


@dataclass(frozen=True)
class Record:
    """A candidate as it stands.

    Attributes:
        spec: Of the traditional CNN; empty for the paper's network.
        learning_rate: None where the recipe's own was taken.
        values: Balanced accuracy of patients after each epoch, by epoch.
        macs: Multiply-accumulates of one image: the cost that hangs on no machine.
        seconds_per_epoch: Of one fold; None before the first epoch.
        reason: Why it failed.
        timing: None before the end, and where a worker died.
    """

    number: int
    status: Status
    spec: Mapping[str, Any]
    learning_rate: float | None
    values: Mapping[int, float]
    macs: int
    parameters: int
    seconds_per_epoch: float | None = None
    reason: str = ""
    timing: Timing | None = None

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return max(self.values, default=0)

    @property
    def balanced_accuracy(self) -> float | None:
        """After the last epoch; None before the first."""
        return self.values.get(self.epochs)


def find_best(records: Sequence[Record]) -> Record | None:
    """The finished candidate with the highest balanced accuracy; of equals the cheaper one."""
    finished = [record for record in records if record.status == "finished"]
    return max(finished, key=lambda record: (record.balanced_accuracy, -record.macs, -record.number), default=None)


def find_front(records: Sequence[Record]) -> set[int]:
    """The Pareto front of accuracy against multiply-accumulates: finished candidates that no other one beats in both.

    One that was stopped early has no comparable accuracy, and is left out.
    """
    finished = [record for record in records if record.status == "finished"]
    ordered = sorted(finished, key=lambda record: (record.macs, -(record.balanced_accuracy or 0.0), record.number))
    front, best = set[int](), -1.0
    for record in ordered:
        if (record.balanced_accuracy or 0.0) > best:
            front.add(record.number)
            best = record.balanced_accuracy or 0.0
    return front


def summarize_timing(records: Sequence[Record], sessions: Sequence[Session]) -> dict[str, float]:
    """How well the workers were used.

    A worker's process starts once: the time until its first candidate is `start_seconds_per_worker`, and no part of
    the overhead. From its first candidate's start to its last one's end all that is not training is overhead: building
    networks, checkpoints, the scheduler's decisions, waiting for the next candidate. From then to the end of the
    search it is idle.

    Returns:
        wall_seconds (from the start of the workers to the last candidate's end, restarts added up), training_seconds
        (of all workers), overhead_seconds_per_candidate, start_seconds_per_worker, idle_share (of wall time x workers).
    """
    timings = [record.timing for record in records if record.timing]
    wall = overhead = idle = starting = capacity = 0.0
    workers = 0
    for session in sessions:
        here = [timing for timing in timings if timing.session == session.started]
        if not here:
            continue
        end = max(timing.ended for timing in here)
        wall += end - session.started
        capacity += session.slots * (end - session.started)
        names = {timing.worker for timing in here}
        for name in names:
            own = [timing for timing in here if timing.worker == name]
            first, last = min(timing.started for timing in own), max(timing.ended for timing in own)
            overhead += last - first - sum(timing.training_seconds for timing in own)
            starting += first - session.started
            idle += end - last
        idle += max(session.slots - len(names), 0) * (end - session.started)
        workers += len(names)
    return {
        "wall_seconds": wall,
        "training_seconds": sum(timing.training_seconds for timing in timings),
        "overhead_seconds_per_candidate": overhead / len(timings) if timings else 0.0,
        "start_seconds_per_worker": starting / workers if workers else 0.0,
        "idle_share": idle / capacity if capacity else 0.0,
    }
