"""Audits: what the paper's protocol hides. Each is a table for the report and a few flat metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from osteo_models.evaluation.audits.groups import group_rows, pair_rows, use_rows
from osteo_models.evaluation.audits.leakage import alike_rows, duplicate_rows, find_alike, shared_rows
from osteo_models.evaluation.audits.shortcuts import beyond_rows, metric_cells, score_shortcuts, shortcut_rows
from osteo_models.evaluation.columns import AUDIT_COLUMNS
from osteo_models.evaluation.image_facts import Facts
from osteo_models.evaluation.metrics import Measure, Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, Tables


def audit(
    jobs: Sequence[Predictions], summaries: Mapping[str, Mapping[str, Summary]], facts: Facts | None, measure: Measure
) -> Tables:
    """All audits; without splits those of them that need none.

    Args:
        jobs: All jobs.
        summaries: Of each job by name, then by subset.
        facts: Of the images.
        measure: As the jobs were measured.

    Raises:
        TableError: The predictions are of other images than the facts.
    """
    tables: Tables = {name: [] for name in AUDIT_COLUMNS}
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
            tables["shortcuts"] += _model_rows(job, parts["all"])
        if job.images == "multimodal" and job.validation != "patient_test":
            tables["modalities"] += use_rows(job, dict(parts))
            if facts is not None:
                tables["modalities"] += pair_rows(job, facts, measure)
    return tables


def _model_rows(job: Predictions, summary: Summary) -> list[Row]:
    """An image model's figures in the table of shortcuts."""
    row: Row = {"predictor": job.architecture, "kind": "image model", "images": job.images, "source": job.source}
    row |= {"validation": job.validation}
    return [row | cells for cells in metric_cells(summary)]


def flatten_audits(tables: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """Flat metrics of the whole study, for `dvc metrics`; what is undefined is left out."""
    found: dict[str, float | None] = {}
    for row in tables["duplicates"]:
        found[f"duplicates.{row['split']}.{row['kind']}"] = _number(row, "share")
        found[f"duplicates.{row['split']}.{row['kind']}.other_patient"] = _number(row, "pairs_other_patient")
    for row in tables["shared"]:
        found[f"shared.{row['split']}.{row['unit']}"] = _number(row, "share")
    for row in tables["shortcuts"]:
        if row["kind"] == "shortcut":
            name = f"shortcut.{row['predictor']}.{row['images']}.{row['validation']}.{row['metric']}"
            found |= {f"{name}{end}": _number(row, column) for end, column in _ENDS.items()}
    return {name: value for name, value in found.items() if value is not None}


def flatten_job(tables: Mapping[str, Sequence[Row]], job: Predictions) -> dict[str, float]:
    """The audits that concern one job's split and images, under `audit.`; what is undefined is left out."""
    split = f"fold_{job.protocol}" if job.validation == "folds" else job.validation
    images = "combined" if job.images == "multimodal" else job.images
    found: dict[str, float | None] = {}
    for row in tables["duplicates"]:
        if row["split"] == split:
            found[f"audit.duplicates.{row['kind']}"] = _number(row, "share")
    for row in tables["shared"]:
        if row["split"] == split:
            found[f"audit.shared.{row['unit']}"] = _number(row, "share")
    for row in tables["shortcuts"]:
        if (row["kind"], row["images"], row["validation"]) == ("shortcut", images, job.validation):
            name = f"audit.{row['predictor']}.{row['metric']}"
            found |= {f"{name}{end}": _number(row, column) for end, column in _ENDS.items()}
    for row in tables["beyond"]:
        if row["source"] == job.source:
            name = f"audit.beyond_{row['predictor']}.{row['metric']}"
            ends = {"": "difference", ".ci_low": "ci_low", ".ci_high": "ci_high"}
            found |= {f"{name}{end}": _number(row, column) for end, column in ends.items()}
    return {name: value for name, value in found.items() if value is not None}


_ENDS: Final = {"": "value", ".ci_low": "ci_low", ".ci_high": "ci_high"}


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    return None if value is None else float(value)
