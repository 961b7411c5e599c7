"""All statistics of all jobs, from the saved predictions: no network is run for a number.

Everything is computed before the first file is written, and each file appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from osteo_models.evaluation.bootstrap import METRIC_NAMES, RESAMPLES
from osteo_models.evaluation.comparisons import delong_rows, optimism_rows
from osteo_models.evaluation.metrics import SEED, Summary, summarize
from osteo_models.evaluation.patients import score_patients
from osteo_models.evaluation.plots import write_plots
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.evaluation.rows import (
    COUNT_COLUMNS,
    JOB_COLUMNS,
    Row,
    confidence_row,
    delong_cells,
    extreme_rows,
    fold_rows,
    patient_rows,
    roc_rows,
    summary_rows,
)
from osteo_models.terms import STAGES

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "summary": (
        *JOB_COLUMNS,
        *("subset", "level", "metric", "value", "ci_low", "ci_high", "interval", "wald_low", "wald_high"),
        *("wilson_low", "wilson_high", "delong_low", "delong_high", "fold_mean", "fold_sd", "threshold"),
        *(*COUNT_COLUMNS, "source"),
    ),
    "folds": (*JOB_COLUMNS, "fold", "n", "n_patients", *METRIC_NAMES, "source"),
    "roc": (*JOB_COLUMNS, "false_positive_rate", "true_positive_rate", "threshold", "source"),
    "patients": (
        *JOB_COLUMNS,
        *("modality", "patient_id", "target", "score", "images_n", "correct", "accuracy"),
        *("wilson_low", "wilson_high", "source"),
    ),
    "table8": (*JOB_COLUMNS, "mean", "sd", "n_correct", "n", "source"),
    "delong": (
        *("stage", "protocol", "subset", "level", "first", "second", "auc_first", "auc_second", "difference"),
        *("ci_low", "ci_high", "z", "p_value", "n", "n_patients", "note", "source_first", "source_second"),
    ),
    "table10": (
        *JOB_COLUMNS,
        *("group", "which", "patient_id", "accuracy", "wald_low", "wald_high", "wilson_low", "wilson_high"),
        *("n", "source"),
    ),
    "image_vs_patient": (
        *("stage", "architecture", "images", "metric", "image", "patient", "difference", "ci_low", "ci_high"),
        *("n_image", "n_patient", "n_patients", "source_image", "source_patient"),
    ),
}


def evaluate_predictions(
    artifacts: Path, *, threshold: float = 0.5, seed: int = SEED, resamples: int = RESAMPLES
) -> dict[str, Summary]:
    """Compute and write every statistic of artifacts/predictions.

    Writes artifacts/metrics/<stage>.json (flat, for `dvc metrics`) and the tables of `COLUMNS` to
    artifacts/evaluation/<name>.csv. Each row names the predictions file that it comes from.

    Args:
        threshold: A score from here on is decided as osteoporosis.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Returns:
        The pooled summary of each job, by `<stage>/<architecture>-<images>-<protocol>`.

    Raises:
        InputError: No predictions, or a threshold or number of resamples that cannot be used.
        TableError: Faulty predictions, all faults at once. Nothing is written then.
    """
    jobs = read_predictions(artifacts)
    summarize_part = partial(summarize, threshold=threshold, seed=seed, resamples=resamples)
    summaries: dict[str, Summary] = {}
    tables: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for job in jobs:
        for part, subset in _subsets(job):
            summary = summarize_part(part.target, part.score, patient_id=part.patient_id)
            if subset == "all":
                summaries[job.name] = summary
            area = delong_cells(part)
            for row in summary_rows(part, summary, subset, "image"):
                tables["summary"].append(row | (area if row["metric"] == "roc_auc" else {}))
        patients = score_patients(job.target, job.score, job.patient_id, threshold=threshold)
        target, score = [one.target for one in patients], [one.score for one in patients]
        summary = summarize_part(target, score, patient_id=[one.patient_id for one in patients])
        tables["summary"] += summary_rows(job, summary, "all", "patient")
        tables["folds"] += fold_rows(job, threshold)
        tables["roc"] += roc_rows(job)
        tables["patients"] += patient_rows(job, threshold)
        if job.stage == "stage-5":
            tables["table8"].append(confidence_row(job, threshold))
        if job.stage == "stage-6":
            tables["table10"] += extreme_rows(job, threshold)
    tables["delong"] += delong_rows(jobs)
    tables["image_vs_patient"] += optimism_rows(jobs, threshold=threshold, seed=seed, resamples=resamples)
    _write_metrics(artifacts / "metrics", summaries)
    for name, rows in tables.items():
        write_table(artifacts / "evaluation" / f"{name}.csv", COLUMNS[name], rows)
    write_plots(artifacts, jobs, summaries)
    return summaries


def _subsets(job: Predictions) -> Iterator[tuple[Predictions, str]]:
    """The whole job; and each modality of a job that has two."""
    yield job, "all"
    modalities = np.unique(job.modality)
    if modalities.size > 1:
        for modality in modalities:
            yield job.select(job.modality == modality), str(modality)


def _write_metrics(folder: Path, summaries: dict[str, Summary]) -> None:
    """One file per stage, also for a stage without jobs: `{}` says that it is missing, an old file would not."""
    for stage in STAGES:
        found: dict[str, float] = {}
        for name, summary in summaries.items():
            of_stage, job = name.split("/", 1)
            if of_stage == stage:
                found |= summary.flatten(job)
        _replace_text(folder / f"{stage}.json", json.dumps(found, indent=2, allow_nan=False) + "\n")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file with these columns; a cell that a row lacks, or None, is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def _replace_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
