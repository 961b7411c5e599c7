"""Rows of the tables in artifacts/evaluation, made from one job's predictions each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import decide
from osteo_models.evaluation.calibration import bin_scores
from osteo_models.evaluation.delong import auc_interval
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.metrics import Summary
from osteo_models.evaluation.patient_level import find_extremes, score_patients
from osteo_models.evaluation.patient_sums import METRIC_NAMES, MetricName, PatientSums, compute_metrics, sum_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import trace_roc
from osteo_models.evaluation.scored_cases import BoolArray, FloatArray, IntArray

Cell = str | int | float | None
Row = dict[str, Cell]
Tables = dict[str, list[Row]]  # by the names of columns.COLUMNS

JOB_COLUMNS: Final = ("stage", "architecture", "images", "protocol")
COUNT_COLUMNS: Final = ("n", "n_patients", "n_positive", "n_negative")


def identify(job: Predictions) -> Row:
    """The columns that name a job, and the file that its numbers come from."""
    return {column: getattr(job, column) for column in JOB_COLUMNS} | {"source": job.source}


def summary_rows(job: Predictions, summary: Summary, subset: str, level: str) -> Iterator[Row]:
    """One row per metric: the value, its interval, and Wald's, Wilson's and DeLong's of images next to it.

    Args:
        subset: "all", or the modality that the summary is confined to.
        level: "image", or "patient" where each patient counts once, with the mean score.
    """
    folds = fold_values(job, summary.threshold) if (subset, level) == ("all", "image") else {}
    counts = {column: getattr(summary, column) for column in COUNT_COLUMNS}
    for name, estimate in summary.estimates().items():
        row = identify(job) | {"subset": subset, "level": level, "metric": name, "value": estimate.value}
        row |= {"ci_low": estimate.ci_low, "ci_high": estimate.ci_high, "interval": estimate.interval}
        row |= {"threshold": summary.threshold} | _proportion_cells(name, summary)
        row |= _fold_cells([values[name] for values in folds.values()]) | counts
        yield row


def _proportion_cells(name: MetricName, summary: Summary) -> Row:
    counts = (summary.true_positives, summary.n_positive, summary.true_negatives, summary.n_negative)
    return interval_cells(name, *counts)


def interval_cells(name: MetricName, hits: int, positives: int, rejections: int, negatives: int) -> Row:
    """Wald's and Wilson's interval of a proportion of images; empty for what is no proportion, or has no trials."""
    counts: dict[MetricName, tuple[int, int]] = {
        "accuracy": (hits + rejections, positives + negatives),
        "sensitivity": (hits, positives),
        "specificity": (rejections, negatives),
    }
    successes, trials = counts.get(name, (0, 0))
    if not trials:
        return {}
    wald, wilson = proportion_interval(successes, trials), proportion_interval(successes, trials, "wilson")
    return {"wald_low": wald[0], "wald_high": wald[1], "wilson_low": wilson[0], "wilson_high": wilson[1]}


def delong_cells(target: IntArray, score: FloatArray) -> Row:
    """DeLong's interval of the area under the curve; empty where it does not exist."""
    try:
        area = auc_interval(target, score)
    except InputError:  # one class or constant scores: the summary says "undefined" already
        return {}
    return {"delong_low": area.ci_low, "delong_high": area.ci_high}


def add_area(rows: Iterable[Row], area: Row) -> Iterator[Row]:
    """The rows of a summary, that of the area with DeLong's interval."""
    return (row | area if row["metric"] == "roc_auc" else row for row in rows)


def fold_values(job: Predictions, threshold: float) -> dict[int, dict[MetricName, float | None]]:
    """The metrics of each fold by itself, without intervals; None where a fold lacks a class."""
    found: dict[int, dict[MetricName, float | None]] = {}
    for fold in np.unique(job.fold):
        part = job.select(job.fold == fold)
        sums = sum_patients(part.cases, threshold)
        values = compute_metrics(sums)
        found[int(fold)] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return found


def _fold_cells(values: list[float | None]) -> Row:
    """Mean and SD over folds, where there are several and each has the metric."""
    known = [value for value in values if value is not None]
    if len(values) < 2 or len(known) < len(values):
        return {}
    return {"fold_mean": float(np.mean(known)), "fold_sd": float(np.std(known, ddof=1))}


def fold_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    """One row per fold."""
    for fold, values in fold_values(job, threshold).items():
        part = job.select(job.fold == fold)
        row = identify(job) | {"fold": fold, "n": part.target.size, "n_patients": np.unique(part.patient_id).size}
        yield row | {name: values[name] for name in METRIC_NAMES}


def roc_rows(job: Predictions) -> Iterator[Row]:
    """The corner points of the ROC curve; none where a class is missing or the scores are constant."""
    if np.unique(job.target).size < 2 or float(np.ptp(job.score)) == 0:
        return
    curve = trace_roc(job.target, job.score)
    columns = (curve.false_positive_rate, curve.true_positive_rate, curve.threshold)
    for alarm, hit, threshold in zip(*(column.tolist() for column in columns), strict=True):
        yield identify(job) | {"false_positive_rate": alarm, "true_positive_rate": hit, "threshold": threshold}


def patient_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    """One row per patient and modality: mean score, and the share of images classified rightly."""
    for modality in np.unique(job.modality):
        part = job.select(job.modality == modality)
        for one in score_patients(part.target, part.score, part.patient_id, threshold=threshold):
            low, high = proportion_interval(one.correct, one.images, "wilson")
            row = identify(job) | {"modality": str(modality), "patient_id": one.patient_id, "target": one.target}
            row |= {"score": one.score, "images_n": one.images, "correct": one.correct, "accuracy": one.accuracy}
            yield row | {"wilson_low": low, "wilson_high": high}


def extreme_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    """Table 10: best and worst patient of each class."""
    for one in find_extremes(score_patients(job.target, job.score, job.patient_id, threshold=threshold)):
        row = identify(job) | {"group": one.group, "which": one.which, "patient_id": one.patient_id}
        row |= {"accuracy": one.accuracy, "wald_low": one.ci_low, "wald_high": one.ci_high, "n": one.images}
        low, high = proportion_interval(one.correct, one.images, "wilson")
        yield row | {"wilson_low": low, "wilson_high": high}


def calibration_rows(job: Predictions) -> Iterator[Row]:
    """The calibration curve by bins of scores, each with the interval of its observed share."""
    for number, one in enumerate(bin_scores(job.cases), 1):
        row = identify(job) | {"bin": number, "mean_score": one.mean_score, "observed": one.observed}
        yield row | {"low": one.ci_low, "high": one.ci_high, "n": one.images, "n_patients": one.patients}


def confidence_row(job: Predictions, threshold: float) -> Row:
    """Table 8: mean and SD of the scores of the rightly classified, each score taken for the class it decided for."""
    decided: BoolArray = decide(job.score, threshold)
    right = decided == (job.target == 1)
    confidence = np.where(decided, job.score, 1 - job.score)[right]
    mean = float(confidence.mean()) if confidence.size else None
    spread = float(confidence.std(ddof=1)) if confidence.size > 1 else None
    row: Row = identify(job) | {"mean": mean, "sd": spread, "n_correct": confidence.size, "n": job.target.size}
    return row | {"n_patients": int(np.unique(job.patient_id).size)}


def confusion_row(job: Predictions, sums: PatientSums, level: str, kind: str, threshold: FloatArray) -> Row:
    """The four counts at a threshold, or at the thresholds that each fold has."""
    hits, rejections = int(sums.true_positives.sum()), int(sums.true_negatives.sum())
    positives, negatives = int(sums.positives.sum()), int(sums.negatives.sum())
    row: Row = identify(job) | {"level": level, "kind": kind, "n": positives + negatives}
    row |= {"n_patients": sums.positives.size}
    row |= {"threshold_low": float(threshold.min()), "threshold_high": float(threshold.max())}
    row |= {"true_positives": hits, "false_negatives": positives - hits}
    return row | {"true_negatives": rejections, "false_positives": negatives - rejections}
