"""Everything that is computed from the predictions of one job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import decide
from osteo_models.evaluation.metrics import Estimate, Measure, Summary, estimate_metrics, summarize
from osteo_models.evaluation.paper import HOLDOUT_TABLE, PATIENT_TEST_TABLE
from osteo_models.evaluation.patient_level import score_patients
from osteo_models.evaluation.patient_sums import DECISION_METRICS, MetricName, sum_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import (
    Row,
    Tables,
    add_area,
    calibration_rows,
    confidence_row,
    confusion_row,
    delong_cells,
    extreme_rows,
    fold_rows,
    identify,
    interval_cells,
    patient_rows,
    roc_rows,
    summary_rows,
)
from osteo_models.evaluation.scored_cases import Cases
from osteo_models.evaluation.thresholds import Chosen, choose_thresholds


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
    sums = sum_patients(job.cases, measure.threshold)
    summaries: dict[str, Summary] = {}
    tables: Tables = {"summary": [], "confusion": []}
    for part, subset in _subsets(job):
        summary = summarize(
            part.target,
            part.score,
            patient_id=part.patient_id.tolist(),
            threshold=measure.threshold,
        )
        summaries[subset] = summary
        area = delong_cells(part.target, part.score)
        tables["summary"] += add_area(summary_rows(part, summary, subset, "image"), area)
    default = np.full(1, measure.threshold)
    tables["confusion"].append(confusion_row(job, sums, "image", "default", default))
    _add_patient_level(job, tables, measure)
    tables["folds"] = list(fold_rows(job, measure.threshold))
    tables["roc"] = list(roc_rows(job))
    tables["patients"] = list(patient_rows(job, measure.threshold))
    chosen = choose_thresholds(job, jobs, stages)
    estimates: dict[MetricName, Estimate] = {}
    if chosen.exists:
        chosen_sums = sum_patients(job.cases, chosen.threshold)
        estimates = estimate_metrics(chosen_sums, DECISION_METRICS)
        tables["confusion"].append(confusion_row(job, chosen_sums, "image", "chosen", chosen.threshold))
    tables["chosen"] = list(_chosen_rows(job, chosen, estimates, summaries["all"]))
    if job.protocol == "patient":
        tables["calibration"] = list(calibration_rows(job))
    if job.stage in stages.find_paper_table(HOLDOUT_TABLE):
        tables["table8"] = [confidence_row(job, measure.threshold)]
    if job.stage in stages.find_paper_table(PATIENT_TEST_TABLE):
        tables["table10"] = list(extreme_rows(job, measure.threshold))
    return JobResult(summaries, tables, summaries["all"].flatten() | _flatten_chosen(chosen, estimates))


def _subsets(job: Predictions) -> Iterator[tuple[Predictions, str]]:
    """The whole job; and each modality of a job that has two."""
    yield job, "all"
    modalities = np.unique(job.modality)
    if modalities.size > 1:
        for modality in modalities:
            yield job.select(job.modality == modality), str(modality)


def _add_patient_level(job: Predictions, tables: Tables, measure: Measure) -> None:
    """Each patient once, with the mean score."""
    patients = score_patients(job.target, job.score, job.patient_id, threshold=measure.threshold)
    target = np.asarray([one.target for one in patients], dtype=np.int64)
    score = np.asarray([one.score for one in patients])
    names = np.asarray([one.patient_id for one in patients], dtype=np.str_)
    summary = summarize(target, score, patient_id=names.tolist(), threshold=measure.threshold)
    tables["summary"] += add_area(summary_rows(job, summary, "all", "patient"), delong_cells(target, score))
    sums = sum_patients(Cases(target, score, names, has_patients=True), measure.threshold)
    default = np.full(1, measure.threshold)
    tables["confusion"].append(confusion_row(job, sums, "patient", "default", default))


def _chosen_rows(
    job: Predictions, chosen: Chosen, estimates: Mapping[MetricName, Estimate], default: Summary
) -> Iterator[Row]:
    """One row per metric at the threshold that other patients' scores chose, beside the default one's figure."""
    row: Row = identify(job) | {"source_threshold": chosen.source, "note": chosen.note}
    row |= {"n": default.n, "n_patients": default.n_patients}
    row |= {"n_positive": default.n_positive, "n_negative": default.n_negative}
    decision = decide(job.score, chosen.threshold)
    hits, rejections = int((decision & (job.target == 1)).sum()), int((~decision & (job.target == 0)).sum())
    if chosen.exists:
        row |= {"threshold_low": float(chosen.threshold.min()), "threshold_high": float(chosen.threshold.max())}
    for name in DECISION_METRICS:
        cells: Row = {"metric": name, "default_value": default.estimates()[name].value, "interval": "undefined"}
        if name in estimates:
            one = estimates[name]
            cells |= {"value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high, "interval": one.interval}
            cells |= interval_cells(name, hits, default.n_positive, rejections, default.n_negative)
        yield row | cells


def _flatten_chosen(chosen: Chosen, estimates: Mapping[MetricName, Estimate]) -> dict[str, float]:
    found: dict[str, float | None] = {"chosen.threshold": float(chosen.threshold.mean()) if chosen.exists else None}
    for name, one in estimates.items():
        found |= {
            f"chosen.{name}": one.value,
            f"chosen.{name}.ci_low": one.ci_low,
            f"chosen.{name}.ci_high": one.ci_high,
        }
    return {name: value for name, value in found.items() if value is not None}
