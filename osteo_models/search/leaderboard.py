"""The results of a search: its candidates, the best one, the Pareto front, use of the workers, and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from osteo_models.core.files import write_atomically

if TYPE_CHECKING:
    from osteo_models.evaluation.metrics import Estimate

Row = dict[str, Any]
FOLDER: Final = "search"
GAPS: Final = ("learning_rate", "balanced_accuracy", "seconds_per_epoch")
CANDIDATES, SUMMARY = "candidates.csv", "summary.json"
REESTIMATE = ("reestimated_balanced_accuracy", "reestimated_low", "reestimated_high")
HEADLINE = ("candidates", "best_balanced_accuracy", *REESTIMATE)
Status = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Timing:
    """When a worker trained a candidate; seconds since 1970 by the worker's clock.

    Attributes:
        session: Start of the search's process, which differs between restarts.
        worker: Host and process number.
        training_seconds: Training and testing; the rest of the time from `started` to `ended` is overhead.
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
    """The state of a candidate.

    Attributes:
        spec: Of the traditional CNN; empty for the paper's network.
        learning_rate: None for the recipe's own.
        values: Balanced accuracy of patients after each epoch, by epoch.
        macs: Multiply-accumulates of one image, a cost that is the same on every machine.
        seconds_per_epoch: Of one fold; None before the first epoch.
        reason: Why it failed.
        timing: None before the end, and if a worker died.
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


def count_status(records: Sequence[Record], status: Status) -> int:
    """Number of candidates with this status."""
    return sum(record.status == status for record in records)


def find_best(records: Sequence[Record]) -> Record | None:
    """The finished candidate with the highest balanced accuracy; of equals the cheaper one."""
    finished = [record for record in records if record.status == "finished"]
    return max(finished, key=lambda record: (record.balanced_accuracy, -record.macs, -record.number), default=None)


def find_front(records: Sequence[Record]) -> set[int]:
    """Numbers of the candidates on the Pareto front of accuracy and multiply-accumulates.

    Only finished candidates count: the accuracy of a pruned one is not comparable.
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


def tabulate(records: Sequence[Record]) -> list[Row]:
    """One row per candidate, in the order in which they were drawn."""
    front = find_front(records)
    return [
        {
            "candidate": record.number,
            "status": record.status,
            "spec": json.dumps(dict(record.spec)),
            "learning_rate": record.learning_rate,
            "balanced_accuracy": record.balanced_accuracy,
            "parameters": record.parameters,
            "macs": record.macs,
            "seconds_per_epoch": record.seconds_per_epoch,
            "epochs": record.epochs,
            "pareto": int(record.number in front),
            "reason": record.reason,
        }
        for record in records
    ]


def summarize_search(
    records: Sequence[Record],
    sessions: Sequence[Session],
    refused: Mapping[str, int],
    *,
    reestimate: Estimate | None = None,
) -> dict[str, Any]:
    """The search in numbers, flat.

    Args:
        records: All candidates.
        sessions: All starts of the search.
        refused: Networks that were refused without training, by reason.
        reestimate: The winner on fresh folds, if it is known.
    """
    best = find_best(records)
    summary: dict[str, Any] = {
        "candidates": len(records),
        **{status: count_status(records, status) for status in ("finished", "pruned", "failed")},
        "rejected_shapes": refused["impossible"],
        "rejected_costs": refused["too costly"],
        "rejected_repeats": refused["tried before"],
        "best_candidate": best.number if best else None,
        "best_balanced_accuracy": best.balanced_accuracy if best else None,
    }
    if reestimate is not None:
        summary |= zip(REESTIMATE, (reestimate.value, reestimate.ci_low, reestimate.ci_high), strict=True)
    return summary | {name: round(value, 4) for name, value in summarize_timing(records, sessions).items()}


def write_search(artifacts: Path, records: Sequence[Record], summary: Mapping[str, Any]) -> None:
    """Write candidates.csv, summary.json and the headline for `dvc metrics`."""
    folder = artifacts / FOLDER
    write_atomically(folder / CANDIDATES, pd.DataFrame(tabulate(records)).to_csv(index=False))
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
    headline = {name: summary[name] for name in HEADLINE if summary.get(name) is not None}
    write_atomically(artifacts / "metrics" / "search.json", json.dumps(headline, indent=1) + "\n")


def read_candidates(path: Path) -> list[Row]:
    """Read candidates.csv; a gap is None."""
    table = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in GAPS})
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
