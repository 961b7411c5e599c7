"""Audit: performance by sex, age band, scanner and modality, and of the multimodal network with one modality only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.terms import MODALITIES
from osteo_models.data.pairs import pair_images
from osteo_models.evaluation.image_facts import Facts
from osteo_models.evaluation.metrics import COUNTS, Measure, Summary, estimate_metrics
from osteo_models.evaluation.patient_level import DECISION_METRICS, MetricName, compute_metrics, sum_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import ESTIMATE, INTERVAL, JOB_COLUMNS, PROPORTIONS, Row, estimate_cells, identify
from osteo_models.evaluation.scored_cases import Cases, IntArray, TextArray

GROUP_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "groups": (*JOB_COLUMNS, "by", "group", "metric", *ESTIMATE, *COUNTS, "note", "source"),
    "modalities": (*JOB_COLUMNS, "use", "metric", "value", *INTERVAL, "n", "n_patients", "note", "source"),
}
FEWEST: Final = 10  # patients of a group; no figures with fewer
AGE_BANDS: Final = (35, 45, 55, 65, 75)
GROUP_METRICS: Final[tuple[MetricName, ...]] = (*DECISION_METRICS, "roc_auc")
USE_METRICS: Final[tuple[MetricName, ...]] = (*PROPORTIONS, "balanced_accuracy", "roc_auc", "brier")


def group_rows(job: Predictions, facts: Facts, measure: Measure) -> Iterator[Row]:
    """One row per group and metric; a group with fewer than ten patients has its counts and no figures."""
    rows = facts.find_rows(job.image_id)
    for by, groups in _name_groups(job, facts, rows).items():
        for group in np.unique(groups):
            part = job.select(groups == group)
            positive, patients = int(part.target.sum()), int(np.unique(part.patient_id).size)
            row: Row = identify(job) | {"by": by, "group": str(group), "n": part.target.size, "n_patients": patients}
            row |= {"n_positive": positive, "n_negative": part.target.size - positive}
            if patients < FEWEST:
                note = f"too few: {patients} patient(s), {FEWEST} wanted"
                yield from (row | {"metric": name, "interval": "undefined", "note": note} for name in GROUP_METRICS)
                continue
            note = "" if 0 < positive < part.target.size else "one class alone"
            estimates = estimate_metrics(sum_patients(part.cases, measure.threshold), GROUP_METRICS)
            yield from (row | estimate_cells(name, estimate) | {"note": note} for name, estimate in estimates.items())


def _name_groups(job: Predictions, facts: Facts, rows: IntArray) -> dict[str, TextArray]:
    """The group of each image, by kind of group."""
    scanner = facts.scanner[rows]
    groups = {
        "sex": facts.sex[rows],
        "age": band_ages(facts.age_years[rows]),
        "scanner": np.where(scanner == "", "unknown", scanner),
    }
    if np.unique(job.modality).size > 1:
        groups["modality"] = job.modality
    return groups


def band_ages(age_years: np.ndarray) -> TextArray:
    """`under 35`, `35-44`, ..., `75 and over`; `unknown` where there is no age."""
    names = [f"under {AGE_BANDS[0]}"]
    names += [f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS)]
    names += [f"{AGE_BANDS[-1]} and over", "unknown"]
    band = np.digitize(age_years, AGE_BANDS)  # NaN falls behind the last edge
    return np.asarray(names)[np.where(np.isnan(age_years), len(names) - 1, band)]


def use_rows(job: Predictions, parts: dict[str, Summary]) -> Iterator[Row]:
    """Rows for the modalities by themselves and pooled; `parts` are the job's summaries by subset."""
    for use, subset in (*((name, name) for name in MODALITIES), ("pooled", "all")):
        if subset not in parts:
            continue
        summary = parts[subset]
        row: Row = identify(job) | {"use": use, "n": summary.n, "n_patients": summary.n_patients}
        for name in USE_METRICS:
            estimate = summary.estimates()[name]
            yield row | {
                "metric": name,
                "value": estimate.value,
                "ci_low": estimate.ci_low,
                "ci_high": estimate.ci_high,
            }


def pair_rows(job: Predictions, facts: Facts, measure: Measure) -> Iterator[Row]:
    """Rows for the mean of the outputs of each pair that the job was tested on."""
    pairs = join_pairs(job, facts, measure.seed)
    row = identify(job) | {"use": "pairs"}
    if pairs is None:
        note = "no pairs of images that were scored"
        yield from (row | {"metric": name, "note": note} for name in USE_METRICS)
        return
    sides = [job.select(rows) for rows in pairs]
    row |= {"n": sides[0].target.size, "n_patients": sum(np.unique(side.patient_id).size for side in sides)}
    row |= {"note": "n counts pairs, each of two patients; no interval, as none was shown to cover"}
    score = np.stack([side.score for side in sides]).mean(axis=0)
    cases = Cases(
        sides[0].target, score, np.asarray([str(row) for row in range(score.size)], dtype=np.str_), has_patients=False
    )
    for name, value in compute_metrics(sum_patients(cases, measure.threshold), USE_METRICS).items():
        yield row | {"metric": name, "value": None if np.isnan(value) else value}


def join_pairs(job: Predictions, facts: Facts, seed: int) -> IntArray | None:
    """Rows of the job that form pairs, (K, M): those of the splits, or drawn here for the hold-out; None for none."""
    if job.validation == "folds":
        ids = facts.pairs.image_ids[:, facts.pairs.split == job.protocol]
    else:
        ids = _draw_pairs(job, seed)
    ids = ids[np.isin(list(MODALITIES), job.modality)]
    order = np.argsort(job.image_id)
    image_ids = job.image_id[order]
    index = np.minimum(np.searchsorted(image_ids, ids), image_ids.size - 1)
    rows = order[index[:, (image_ids[index] == ids).all(axis=0)]]
    return rows.astype(np.int64) if rows.size else None


def _draw_pairs(job: Predictions, seed: int) -> TextArray:
    """Pairs of one class at random, as the network is trained on: (K, M) ids, a row for each of the `MODALITIES`."""
    columns = {"image_id": job.image_id, "modality": job.modality, "target": job.target}
    pairs = cast(Any, pair_images)(cast(Any, pd).DataFrame(columns), seed)
    return np.asarray([pairs[f"{name}_image_id"].tolist() for name in MODALITIES], dtype=np.str_)
