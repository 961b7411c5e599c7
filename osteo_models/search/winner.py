"""The winner of a search: kept in a file, and put in the place of its architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from osteo_models.core.errors import StaleDataError
from osteo_models.core.files import write_atomically
from osteo_models.search.candidate import ARCHITECTURE
from osteo_models.search.leaderboard import Record
from osteo_models.training.jobs import Job

BEST: Final = Path("search") / "best.yaml"


@dataclass(frozen=True)
class Winner:
    """What `experiments` trains as the traditional CNN; `learning_rate` is None for the recipe's own."""

    candidate: int
    spec: Mapping[str, Any]
    learning_rate: float | None


def write_winner(artifacts: Path, record: Record) -> Winner:
    """Write best.yaml."""
    winner = Winner(record.number, record.spec, record.learning_rate)
    content: dict[str, Any] = {"architecture": ARCHITECTURE, "candidate": record.number, "spec": dict(record.spec)}
    if record.learning_rate is not None:
        content["learning_rate"] = record.learning_rate
    path = artifacts / BEST
    write_atomically(path, yaml.safe_dump(content, sort_keys=False).encode())
    return winner


def read_winner(artifacts: Path) -> Winner:
    """Read best.yaml.

    Raises:
        StaleDataError: it is missing or damaged.
    """
    path = artifacts / BEST
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Winner(int(content["candidate"]), dict(content["spec"]), content.get("learning_rate"))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        found = (
            "file not found"
            if isinstance(error, FileNotFoundError)
            else f"cannot be used ({' '.join(str(error).split())})"
        )
        raise StaleDataError(found, where=str(path), remedy="make it with `dvc repro search`") from None


def put_in_place(jobs: Sequence[Job], winner: Winner) -> list[Job]:
    """The jobs with the winner as their traditional CNN."""
    return [_replace(job, winner) if job.architecture == ARCHITECTURE else job for job in jobs]


def _replace(job: Job, winner: Winner) -> Job:
    rate = winner.learning_rate or job.recipe.learning_rate
    return replace(job, spec=dict(winner.spec), recipe=replace(job.recipe, learning_rate=rate))
