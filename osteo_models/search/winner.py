"""The winner of a search: stored in best.yaml, and applied to the jobs of its architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from osteo_models.core.errors import StaleDataError
from osteo_models.core.files import write_atomically
from osteo_models.models.traditional import ARCHITECTURE
from osteo_models.training.jobs import Job

BEST: Final = Path("search") / "best.yaml"


@dataclass(frozen=True)
class Winner:
    """What `experiments` trains as the traditional CNN; `learning_rate` is None for the recipe's own."""

    candidate: int
    spec: Mapping[str, Any]
    learning_rate: float | None


def write_winner(artifacts: Path, winner: Winner) -> None:
    """Write best.yaml."""
    content: dict[str, Any] = {"architecture": ARCHITECTURE, "candidate": winner.candidate, "spec": dict(winner.spec)}
    if winner.learning_rate is not None:
        content["learning_rate"] = winner.learning_rate
    write_atomically(artifacts / BEST, yaml.safe_dump(content, sort_keys=False))


def read_winner(artifacts: Path) -> Winner:
    """Read best.yaml.

    Raises:
        StaleDataError: It is missing or damaged.
    """
    path, remedy = artifacts / BEST, "make it with `dvc repro search`"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Winner(int(content["candidate"]), dict(content["spec"]), content.get("learning_rate"))
    except FileNotFoundError:
        raise StaleDataError("file not found", where=str(path), remedy=remedy) from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        found = f"cannot be used ({' '.join(str(error).split())})"
        raise StaleDataError(found, where=str(path), remedy=remedy) from None


def apply_winner(jobs: Sequence[Job], winner: Winner) -> list[Job]:
    """The jobs with the winner as their traditional CNN."""
    return [_apply(job, winner) if job.architecture == ARCHITECTURE else job for job in jobs]


def _apply(job: Job, winner: Winner) -> Job:
    rate = winner.learning_rate or job.recipe.learning_rate
    return replace(job, spec=dict(winner.spec), recipe=replace(job.recipe, learning_rate=rate))
