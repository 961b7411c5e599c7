"""The winner of a search: estimated again on fresh folds, kept in a file, and put in the place of its architecture.

The best of many is chosen for its luck too, so that the number it was chosen by is too high. The winner is trained
anew, from other weights, on other folds of the same patients; that number is to be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from osteo_models.errors import StaleDataError
from osteo_models.evaluation.folds import summarize_folds
from osteo_models.evaluation.metrics import Estimate
from osteo_models.training.candidate import ARCHITECTURE
from osteo_models.training.development import Development
from osteo_models.training.jobs import FoldRows, Job
from osteo_models.training.leaderboard import Record
from osteo_models.training.results import FoldResult, write_atomically
from osteo_models.training.study import Design
from osteo_models.training.tune import Cluster, run_job

BEST: Final = Path("search") / "best.yaml"


@dataclass(frozen=True)
class Winner:
    """What `experiments` trains as the traditional CNN; `learning_rate` is None for the recipe's own."""

    candidate: int
    spec: Mapping[str, Any]
    learning_rate: float | None


def estimate_again(
    record: Record,
    design: Design,
    development: Development,
    cluster: Cluster,
    *,
    folder: Path,
    on_epoch: Callable[[int, int], None],
) -> Estimate:
    """Train a candidate on fresh folds, as a job of its own.

    Args:
        record: The winner.
        design: Of its search.
        development: The images that the cluster holds.
        cluster: From `open_cluster`.
        folder: Of all jobs' checkpoints and results.
        on_epoch: Takes a fold and its finished epochs.

    Returns:
        The mean over the folds of the balanced accuracy of patients, as in the search, with its interval.
    """
    rows = development.deal(design.budget.folds, design.derive_seed("fresh folds"))
    job = _as_job(record, design)
    at_once = min(cluster.slots, job.folds)
    count = lambda _, fold, epochs: on_epoch(fold, epochs)  # noqa: E731
    results = run_job(job, dict(enumerate(rows)), cluster, folder=folder, at_once=at_once, on_epoch=count)
    return _estimate(results, rows, development, design.derive_seed("bootstrap"))


def _as_job(record: Record, design: Design) -> Job:
    rate = record.learning_rate or design.recipe.learning_rate
    return Job(
        stage="stage-1",  # that is what it is, on other folds
        architecture=ARCHITECTURE,
        images="mri",
        protocol="patient",
        validation="folds",
        spec=record.spec,
        recipe=replace(design.recipe, learning_rate=rate),
        seed=design.derive_seed("fresh weights"),
        folds=design.budget.folds,
        threads=design.threads,
        device=design.device,
        digests={"search": design.key},
        code=design.code,
    )


def _estimate(results: Sequence[FoldResult], rows: Sequence[FoldRows], development: Development, seed: int) -> Estimate:
    target, score, fold = list[int](), list[float](), list[int]()
    for result in results:
        test = rows[result.fold].test
        _, first, index = np.unique(development.patient[test], return_index=True, return_inverse=True)
        score += (np.bincount(index, weights=result.scores.astype(np.float64)) / np.bincount(index)).tolist()
        target += development.arrays.target[test][first].tolist()
        fold += [result.fold] * len(first)
    return summarize_folds(target, score, fold, seed=seed)


def write_winner(artifacts: Path, record: Record) -> Winner:
    """Write best.yaml."""
    winner = Winner(record.number, record.spec, record.learning_rate)
    content: dict[str, Any] = {"architecture": ARCHITECTURE, "candidate": record.number, "spec": dict(record.spec)}
    if record.learning_rate is not None:
        content["learning_rate"] = record.learning_rate
    path = artifacts / BEST
    path.parent.mkdir(parents=True, exist_ok=True)
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
