"""Audits of what the paper's protocol hides. Each is a table for the report and a few flat metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from osteo_models.evaluation.audits.groups import GROUP_TABLES, group_rows, pair_rows, use_rows
from osteo_models.evaluation.audits.leakage import LEAKAGE_TABLES, alike_rows, duplicate_rows, find_alike, shared_rows
from osteo_models.evaluation.audits.shortcuts import (
    SHORTCUT_TABLES,
    beyond_rows,
    metric_cells,
    score_shortcuts,
    shortcut_rows,
)
from osteo_models.evaluation.image_facts import Facts
from osteo_models.evaluation.metrics import Measure, Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, Tables

AUDIT_TABLES: Final = LEAKAGE_TABLES | SHORTCUT_TABLES | GROUP_TABLES


def audit(
    jobs: Sequence[Predictions], summaries: Mapping[str, Mapping[str, Summary]], facts: Facts | None, measure: Measure
) -> Tables:
    """All audits; without splits only those that need none.

    Args:
        jobs: All jobs.
        summaries: Summaries of each job by name, then by subset.
        facts: Facts about the images.
        measure: Threshold and seed of the jobs' metrics.

    Raises:
        TableError: The predictions are of other images than the facts.
    """
    tables: Tables = {name: [] for name in AUDIT_TABLES}
    if facts is not None:
        tables["shared"] += shared_rows(facts)
        shortcuts = score_shortcuts(facts)
        tables["shortcuts"] += shortcut_rows(facts, shortcuts, measure)
        for job in jobs:
            if job.protocol == "patient":
                tables["beyond"] += beyond_rows(job, facts, shortcuts, measure)
        if facts.pixels is not None:
            alike = find_alike(facts.pixels)
            tables["duplicates"] += duplicate_rows(facts, alike)
            tables["duplicate_pairs"] += alike_rows(facts, alike)
    for job in jobs:
        parts = summaries[job.name]
        if job.protocol == "patient":
            if facts is not None:
                tables["groups"] += group_rows(job, facts, measure)
            row: Row = {"predictor": job.architecture, "kind": "image model", "images": job.images}
            row |= {"source": job.source, "validation": job.validation}
            tables["shortcuts"] += (row | cells for cells in metric_cells(parts["all"]))
        if job.images == "multimodal" and job.validation != "patient_test":
            tables["modalities"] += use_rows(job, dict(parts))
            if facts is not None:
                tables["modalities"] += pair_rows(job, facts, measure)
    return tables


def flatten_audits(tables: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """Flat metrics of the whole study, for `dvc metrics`; undefined values are left out."""
    metrics: dict[str, float] = {}
    for row in tables["duplicates"]:
        name = f"duplicates.{row['split']}.{row['kind']}"
        metrics |= flatten_row(row, {name: "share", f"{name}.other_patient": "pairs_other_patient"})
    for row in tables["shared"]:
        metrics |= flatten_row(row, {f"shared.{row['split']}.{row['unit']}": "share"})
    for row in tables["shortcuts"]:
        if row["kind"] == "shortcut":
            name = f"shortcut.{row['predictor']}.{row['images']}.{row['validation']}.{row['metric']}"
            metrics |= flatten_interval(row, name, "value")
    return metrics


def flatten_job(tables: Mapping[str, Sequence[Row]], job: Predictions) -> dict[str, float]:
    """The audits that concern one job's split and images, under `audit.`; undefined values are left out."""
    split = f"fold_{job.protocol}" if job.validation == "folds" else job.validation
    images = "combined" if job.images == "multimodal" else job.images
    metrics: dict[str, float] = {}
    for table, field in (("duplicates", "kind"), ("shared", "unit")):
        for row in tables[table]:
            if row["split"] == split:
                metrics |= flatten_row(row, {f"audit.{table}.{row[field]}": "share"})
    for row in tables["shortcuts"]:
        if (row["kind"], row["images"], row["validation"]) == ("shortcut", images, job.validation):
            metrics |= flatten_interval(row, f"audit.{row['predictor']}.{row['metric']}", "value")
    for row in tables["beyond"]:
        if row["source"] == job.source:
            metrics |= flatten_interval(row, f"audit.beyond_{row['predictor']}.{row['metric']}", "difference")
    return metrics


def flatten_interval(row: Row, name: str, column: str) -> dict[str, float]:
    """A column as `name`, and the ends of its interval."""
    return flatten_row(row, {name: column, f"{name}.ci_low": "ci_low", f"{name}.ci_high": "ci_high"})


def flatten_row(row: Row, columns: Mapping[str, str]) -> dict[str, float]:
    """Columns of a row by the name of their metric; undefined values are left out."""
    values = {name: row.get(column) for name, column in columns.items()}
    return {name: float(value) for name, value in values.items() if value is not None}
