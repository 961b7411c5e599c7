"""Rows of the tables in artifacts/evaluation: shared columns and cells."""

from __future__ import annotations

from typing import Final

from osteo_models.core.errors import InputError
from osteo_models.evaluation.delong import auc_interval
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.metrics import Estimate
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.scored_cases import FloatArray, IntArray

Cell = str | int | float | None
Row = dict[str, Cell]
Tables = dict[str, list[Row]]

JOB_COLUMNS: Final = ("stage", "architecture", "images", "protocol")
INTERVAL: Final = ("ci_low", "ci_high")
ESTIMATE: Final = ("value", *INTERVAL, "interval")
WALD: Final = ("wald_low", "wald_high")
WILSON: Final = ("wilson_low", "wilson_high")
PROPORTIONS: Final = ("accuracy", "sensitivity", "specificity")


def identify(job: Predictions) -> Row:
    """The columns that name a job, and the file that its numbers come from."""
    return {column: getattr(job, column) for column in JOB_COLUMNS} | {"source": job.source}


def estimate_cells(name: str, estimate: Estimate) -> Row:
    """A metric with its value, interval and kind of interval."""
    return {"metric": name} | {column: getattr(estimate, column) for column in ESTIMATE}


def proportion_cells(successes: int, trials: int) -> Row:
    """Wald's and Wilson's interval of a proportion of images; empty without trials."""
    if not trials:
        return {}
    wald, wilson = proportion_interval(successes, trials), proportion_interval(successes, trials, "wilson")
    return dict(zip((*WALD, *WILSON), (*wald, *wilson), strict=True))


def count_successes(
    true_positives: int, n_positive: int, true_negatives: int, n_negative: int
) -> dict[str, tuple[int, int]]:
    """Successes and trials of the metrics that are proportions of images."""
    return {
        "accuracy": (true_positives + true_negatives, n_positive + n_negative),
        "sensitivity": (true_positives, n_positive),
        "specificity": (true_negatives, n_negative),
    }


def delong_cells(target: IntArray, score: FloatArray) -> Row:
    """DeLong's interval of the AUC; empty where it is undefined."""
    try:
        area = auc_interval(target, score)
    except InputError:  # one class or constant scores
        return {}
    return {"delong_low": area.ci_low, "delong_high": area.ci_high}
