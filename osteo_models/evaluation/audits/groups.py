"""Audit: performance by sex, age band, scanner and modality; groups too small to speak of are told as such."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from osteo_models.evaluation.bootstrap import DECISION_METRICS, MetricName, sum_patients
from osteo_models.evaluation.cases import IntArray, TextArray
from osteo_models.evaluation.facts import Facts
from osteo_models.evaluation.metrics import Measure, estimate_metrics
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, identify

FEWEST: Final = 10  # patients; fewer say nothing about a group
AGE_BANDS: Final = (35, 45, 55, 65, 75)
GROUP_METRICS: Final[tuple[MetricName, ...]] = (*DECISION_METRICS, "roc_auc")


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
            sums = sum_patients(part.cases, measure.threshold)
            found = estimate_metrics(sums, GROUP_METRICS)
            note = "" if 0 < positive < part.target.size else "one class alone"
            for name, one in found.items():
                cells: Row = {"metric": name, "value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high}
                yield row | cells | {"interval": one.interval, "note": note}


def _name_groups(job: Predictions, facts: Facts, rows: IntArray) -> dict[str, TextArray]:
    """The group of each image, by kind of group."""
    scanner = facts.scanner[rows]
    found = {
        "sex": facts.sex[rows],
        "age": band_ages(facts.age_years[rows]),
        "scanner": np.where(scanner == "", "unknown", scanner),
    }
    if np.unique(job.modality).size > 1:
        found["modality"] = job.modality
    return found


def band_ages(age_years: np.ndarray) -> TextArray:
    """`under 35`, `35-44`, ..., `75 and over`; `unknown` where there is no age."""
    names = [f"under {AGE_BANDS[0]}"]
    names += [f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS)]
    names += [f"{AGE_BANDS[-1]} and over", "unknown"]
    place = np.digitize(age_years, AGE_BANDS)  # NaN falls behind the last edge
    return np.asarray(names)[np.where(np.isnan(age_years), len(names) - 1, place)]
