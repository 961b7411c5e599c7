"""The tables that are computed from the predictions of one job, each with its columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import decide
from osteo_models.evaluation.calibration import bin_scores
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.metrics import COUNTS, Estimate, Measure, Summary, estimate_metrics, summarize
from osteo_models.evaluation.paper import HOLDOUT_TABLE, PATIENT_TEST_TABLE
from osteo_models.evaluation.patient_level import (
    DECISION_METRICS,
    METRIC_NAMES,
    MetricName,
    PatientSums,
    compute_metrics,
    find_extremes,
    score_patients,
    sum_patients,
)
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import Chosen, choose_thresholds, trace_roc
from osteo_models.evaluation.rows import (
    ESTIMATE,
    JOB_COLUMNS,
    WALD,
    WILSON,
    Row,
    Tables,
    count_successes,
    delong_cells,
    estimate_cells,
    identify,
    proportion_cells,
)
from osteo_models.evaluation.scored_cases import Cases, FloatArray, average_patients

JOB_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "summary": (
        *(*JOB_COLUMNS, "subset", "level", "metric", *ESTIMATE, *WALD, *WILSON, "delong_low", "delong_high"),
        *("fold_mean", "fold_sd", "threshold", *COUNTS, "source"),
    ),
    "chosen": (
        *(*JOB_COLUMNS, "metric", *ESTIMATE, *WALD, *WILSON, "default_value"),
        *("threshold_low", "threshold_high", *COUNTS, "note", "source", "source_threshold"),
    ),
    "confusion": (
        *(*JOB_COLUMNS, "level", "kind", "threshold_low", "threshold_high"),
        *("true_positives", "false_negatives", "true_negatives", "false_positives", "n", "n_patients", "source"),
    ),
    "folds": (*JOB_COLUMNS, "fold", "n", "n_patients", *METRIC_NAMES, "source"),
    "roc": (*JOB_COLUMNS, "false_positive_rate", "true_positive_rate", "threshold", "source"),
    "calibration": (*JOB_COLUMNS, "bin", "mean_score", "observed", "low", "high", "n", "n_patients", "source"),
    "patients": (
        *(*JOB_COLUMNS, "modality", "patient_id", "target", "score", "images_n", "correct", "accuracy"),
        *(*WILSON, "source"),
    ),
}


@dataclass(frozen=True)
class JobResult:
    """One job's summaries by subset ("all", and each modality where there are two), rows by table, and flat metrics."""

    summaries: Mapping[str, Summary]
    tables: Tables
    metrics: dict[str, float]


def evaluate_job(job: Predictions, jobs: Sequence[Predictions], stages: StageTable, measure: Measure) -> JobResult:
    """Summaries, curves and tables of a job.

    Args:
        job: The job.
        jobs: All jobs: its second threshold may come from another one's scores.
        stages: The table of stages.
        measure: The default threshold.
    """
    threshold, default = measure.threshold, np.full(1, measure.threshold)
    subsets = {"all": job, **_split_modalities(job)}
    summaries = {subset: _summarize(part.cases, threshold) for subset, part in subsets.items()}
    averaged = average_patients(job.target, [job.score], job.patient_id)
    patients = Cases(averaged.target, averaged.scores[0], averaged.name, has_patients=True)
    chosen = choose_thresholds(job, jobs, stages)
    tables: Tables = {
        "summary": [
            *(
                row
                for subset, part in subsets.items()
                for row in _summary_rows(job, part.cases, summaries[subset], subset)
            ),
            *_summary_rows(job, patients, _summarize(patients, threshold), "all", "patient"),
        ],
        "confusion": [
            _confusion_row(job, sum_patients(job.cases, threshold), "image", "default", default),
            _confusion_row(job, sum_patients(patients, threshold), "patient", "default", default),
        ],
        "folds": list(_fold_rows(job, threshold)),
        "roc": list(_roc_rows(job)),
        "patients": list(_patient_rows(job, threshold)),
        "calibration": list(_calibration_rows(job)) if job.protocol == "patient" else [],
        "table8": [_confidence_row(job, threshold)] if job.stage in stages.find_paper_table(HOLDOUT_TABLE) else [],
        "table10": list(_extreme_rows(job, threshold))
        if job.stage in stages.find_paper_table(PATIENT_TEST_TABLE)
        else [],
    }
    estimates: dict[MetricName, Estimate] = {}
    if chosen.exists:
        sums = sum_patients(job.cases, chosen.threshold)
        estimates = estimate_metrics(sums, DECISION_METRICS)
        tables["confusion"].append(_confusion_row(job, sums, "image", "chosen", chosen.threshold))
    tables["chosen"] = list(_chosen_rows(job, chosen, estimates, summaries["all"]))
    metrics = summaries["all"].flatten()
    if chosen.exists:
        metrics["chosen.threshold"] = float(chosen.threshold.mean())
        for name, estimate in estimates.items():
            metrics |= estimate.flatten(f"chosen.{name}")
    return JobResult(summaries, tables, metrics)


def _split_modalities(job: Predictions) -> dict[str, Predictions]:
    """Each modality of a job that has two."""
    modalities = np.unique(job.modality)
    if modalities.size == 1:
        return {}
    return {str(modality): job.select(job.modality == modality) for modality in modalities}


def _summarize(cases: Cases, threshold: float) -> Summary:
    return summarize(cases.target, cases.score, patient_id=cases.patient.tolist(), threshold=threshold)


def _summary_rows(job: Predictions, cases: Cases, summary: Summary, subset: str, level: str = "image") -> Iterator[Row]:
    """One row per metric: the value, its interval, and Wald's, Wilson's and DeLong's of images next to it.

    Args:
        subset: "all", or the modality of the cases.
        level: "image", or "patient" where each patient counts once, with the mean score.
    """
    folds = fold_values(job, summary.threshold) if (subset, level) == ("all", "image") else {}
    counts: Row = {column: getattr(summary, column) for column in COUNTS}
    successes = count_successes(summary.true_positives, summary.n_positive, summary.true_negatives, summary.n_negative)
    for name, estimate in summary.estimates().items():
        row = identify(job) | {"subset": subset, "level": level, "threshold": summary.threshold, **counts}
        row |= estimate_cells(name, estimate) | proportion_cells(*successes.get(name, (0, 0)))
        row |= _fold_cells([values[name] for values in folds.values()])
        yield row | (delong_cells(cases.target, cases.score) if name == "roc_auc" else {})


def fold_values(job: Predictions, threshold: float) -> dict[int, dict[MetricName, float | None]]:
    """The metrics of each fold by itself, without intervals; None where a fold lacks a class."""
    folds: dict[int, dict[MetricName, float | None]] = {}
    for fold in np.unique(job.fold):
        values = compute_metrics(sum_patients(job.select(job.fold == fold).cases, threshold))
        folds[int(fold)] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return folds


def _fold_cells(values: Iterable[float | None]) -> Row:
    """Mean and SD over folds, where there are several and each has the metric."""
    per_fold = list(values)
    defined = [value for value in per_fold if value is not None]
    if len(per_fold) < 2 or len(defined) < len(per_fold):
        return {}
    return {"fold_mean": float(np.mean(defined)), "fold_sd": float(np.std(defined, ddof=1))}


def _fold_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    for fold, values in fold_values(job, threshold).items():
        patients = job.patient_id[job.fold == fold]
        yield identify(job) | {"fold": fold, "n": patients.size, "n_patients": np.unique(patients).size, **values}


def _roc_rows(job: Predictions) -> Iterator[Row]:
    """The corner points of the ROC curve; none where a class is missing or the scores are constant."""
    if np.unique(job.target).size < 2 or float(np.ptp(job.score)) == 0:
        return
    curve = trace_roc(job.target, job.score)
    columns = (curve.false_positive_rate, curve.true_positive_rate, curve.threshold)
    for point in zip(*(column.tolist() for column in columns), strict=True):
        yield identify(job) | dict(zip(("false_positive_rate", "true_positive_rate", "threshold"), point, strict=True))


def _patient_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    """One row per patient and modality: mean score, and the share of images classified correctly."""
    for modality in np.unique(job.modality):
        part = job.select(job.modality == modality)
        for patient in score_patients(part.target, part.score, part.patient_id, threshold=threshold):
            row = identify(job) | {
                "modality": str(modality),
                "patient_id": patient.patient_id,
                "target": patient.target,
            }
            row |= {
                "score": patient.score,
                "images_n": patient.images,
                "correct": patient.correct,
                "accuracy": patient.accuracy,
            }
            yield row | dict(zip(WILSON, proportion_interval(patient.correct, patient.images, "wilson"), strict=True))


def _extreme_rows(job: Predictions, threshold: float) -> Iterator[Row]:
    """Table 10: best and worst patient of each class."""
    patients = score_patients(job.target, job.score, job.patient_id, threshold=threshold)
    for group, which, patient in find_extremes(patients):
        row = identify(job) | {"group": group, "which": which, "patient_id": patient.patient_id, "n": patient.images}
        yield row | {"accuracy": patient.accuracy} | proportion_cells(patient.correct, patient.images)


def _calibration_rows(job: Predictions) -> Iterator[Row]:
    """The calibration curve by bins of scores, each with the interval of its observed share."""
    for number, score_bin in enumerate(bin_scores(job.cases), 1):
        row = identify(job) | {"bin": number, "mean_score": score_bin.mean_score, "observed": score_bin.observed}
        yield row | {
            "low": score_bin.ci_low,
            "high": score_bin.ci_high,
            "n": score_bin.images,
            "n_patients": score_bin.patients,
        }


def _confidence_row(job: Predictions, threshold: float) -> Row:
    """Table 8: mean and SD of the scores of correctly classified images, each for the class that was decided on."""
    decided = decide(job.score, threshold)
    confidence = np.where(decided, job.score, 1 - job.score)[decided == (job.target == 1)]
    mean = float(confidence.mean()) if confidence.size else None
    sd = float(confidence.std(ddof=1)) if confidence.size > 1 else None
    row: Row = identify(job) | {"mean": mean, "sd": sd, "n_correct": confidence.size, "n": job.target.size}
    return row | {"n_patients": int(np.unique(job.patient_id).size)}


def _confusion_row(job: Predictions, sums: PatientSums, level: str, kind: str, threshold: FloatArray) -> Row:
    """The four counts at a threshold, or at the thresholds that each fold has."""
    true_positives, true_negatives = int(sums.true_positives.sum()), int(sums.true_negatives.sum())
    positives, negatives = int(sums.positives.sum()), int(sums.negatives.sum())
    row: Row = identify(job) | {"level": level, "kind": kind, "n": positives + negatives}
    row |= {"n_patients": sums.positives.size, **_threshold_cells(threshold)}
    row |= {"true_positives": true_positives, "false_negatives": positives - true_positives}
    return row | {"true_negatives": true_negatives, "false_positives": negatives - true_negatives}


def _threshold_cells(threshold: FloatArray) -> Row:
    return {"threshold_low": float(threshold.min()), "threshold_high": float(threshold.max())}


def _chosen_rows(
    job: Predictions, chosen: Chosen, estimates: Mapping[MetricName, Estimate], default: Summary
) -> Iterator[Row]:
    """One row per metric at the threshold that was chosen on other patients' scores, with the default one's figure."""
    row: Row = identify(job) | {"source_threshold": chosen.source, "note": chosen.note, "interval": "undefined"}
    row |= {column: getattr(default, column) for column in COUNTS}
    row |= _threshold_cells(chosen.threshold) if chosen.exists else {}
    right = decide(job.score, chosen.threshold) == (job.target == 1)
    true_positives, true_negatives = (int(right[job.target == label].sum()) for label in (1, 0))
    successes = count_successes(true_positives, default.n_positive, true_negatives, default.n_negative)
    for name in DECISION_METRICS:
        cells: Row = {"metric": name, "default_value": default.estimates()[name].value}
        if name in estimates:
            cells |= estimate_cells(name, estimates[name]) | proportion_cells(*successes.get(name, (0, 0)))
        yield row | cells
