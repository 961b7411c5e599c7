"""The winner of a search, estimated again on fresh folds.

The best of many is chosen for its luck too, so that the number it was chosen by is too high. The winner is trained
anew, from other weights, on other folds of the same patients; that number is to be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from osteo_models.evaluation.metrics import Estimate, summarize_folds
from osteo_models.search.candidate import ARCHITECTURE
from osteo_models.search.development import Development
from osteo_models.search.leaderboard import Record
from osteo_models.search.study import Design
from osteo_models.training.identity import list_versions
from osteo_models.training.jobs import FoldRows, Job
from osteo_models.training.results import FoldResult
from osteo_models.training.tune import Cluster, run_job


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
    job = replace(_as_job(record, design), inputs=development.digest_inputs(rows))
    at_once = min(cluster.slots, job.folds)
    count = lambda _, fold, epochs: on_epoch(fold, epochs)  # noqa: E731
    results = run_job(job, dict(enumerate(rows)), cluster, folder=folder, at_once=at_once, on_epoch=count)
    return _estimate(results, rows, development)


def _as_job(record: Record, design: Design) -> Job:
    rate = record.learning_rate or design.recipe.learning_rate
    return Job(
        stage="search",
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
        inputs={},
        versions=list_versions(ARCHITECTURE, record.spec),
    )


def _estimate(results: Sequence[FoldResult], rows: Sequence[FoldRows], development: Development) -> Estimate:
    target, score, fold = list[int](), list[float](), list[int]()
    for result in results:
        test = rows[result.fold].test
        _, first, index = np.unique(development.patient[test], return_index=True, return_inverse=True)
        score += (np.bincount(index, weights=result.scores.astype(np.float64)) / np.bincount(index)).tolist()
        target += development.arrays.target[test][first].tolist()
        fold += [result.fold] * len(first)
    return summarize_folds(target, score, fold)
