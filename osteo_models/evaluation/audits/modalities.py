"""Audit: the multimodal network with MRI only, with CT only, and with both.

The published network has one output per modality and fuses by the loss alone. "Both" is therefore shown in two ways:
all images pooled, as the paper counts them, and pairs that share one score, the mean of the two outputs. A pair is one
MRI patient and one CT patient of the same class: two persons' evidence, more than any one person brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.data.pairs import pair_images
from osteo_models.evaluation.bootstrap import MetricName, draw_weights
from osteo_models.evaluation.cases import BoolArray, FloatArray, IntArray, TextArray
from osteo_models.evaluation.facts import Facts
from osteo_models.evaluation.intervals import percentile_interval
from osteo_models.evaluation.metrics import Measure, Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, identify
from osteo_models.evaluation.weighted import weigh_areas
from osteo_models.terms import decide

USE_METRICS: Final[tuple[MetricName, ...]] = (
    "accuracy",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "brier",
)


@dataclass(frozen=True)
class PairScores:
    """Scored pairs with the places of their two patients.

    Shapes:
        target, score, mri_owner, ct_owner: (M,); owners count patients of their modality from 0.
        mri_class, ct_class: the class of each patient.
    """

    target: IntArray
    score: FloatArray
    mri_owner: IntArray
    ct_owner: IntArray
    mri_class: IntArray
    ct_class: IntArray


def use_rows(job: Predictions, parts: dict[str, Summary]) -> Iterator[Row]:
    """Rows for the modalities by themselves and pooled; `parts` are the job's summaries by subset."""
    for use, subset in (("mri", "mri"), ("ct", "ct"), ("pooled", "all")):
        if subset not in parts:
            continue
        summary = parts[subset]
        for name in USE_METRICS:
            one = summary.estimates()[name]
            row: Row = identify(job) | {"use": use, "metric": name, "value": one.value, "ci_low": one.ci_low}
            yield row | {"ci_high": one.ci_high, "n": summary.n, "n_patients": summary.n_patients}


def pair_rows(job: Predictions, facts: Facts, measure: Measure) -> Iterator[Row]:
    """Rows for the mean of the two outputs of each pair that the job was tested on."""
    pairs = join_pairs(job, facts, measure.seed)
    row = identify(job) | {"use": "pairs"}
    if pairs is None:
        note = "no pairs of images that were scored"
        yield from (row | {"metric": name, "note": note} for name in USE_METRICS)
        return
    row |= {"n": pairs.target.size, "n_patients": pairs.mri_class.size + pairs.ct_class.size}
    row |= {"note": "n counts pairs; each is of two patients, both drawn by the bootstrap"}
    mri, ct = (
        draw_weights(found, measure.resamples, measure.seed + place)
        for place, found in enumerate((pairs.mri_class, pairs.ct_class))
    )
    point = _measure(pairs, np.ones((1, pairs.target.size)), measure.threshold)
    samples = _measure(pairs, mri[:, pairs.mri_owner] * ct[:, pairs.ct_owner], measure.threshold)
    for name in USE_METRICS:
        value = float(point[name][0])
        interval = percentile_interval(samples[name]) or (None, None)
        known = not np.isnan(value)
        cells: Row = {"value": value if known else None, "ci_low": interval[0], "ci_high": interval[1]}
        yield row | {"metric": name} | cells


def join_pairs(job: Predictions, facts: Facts, seed: int) -> PairScores | None:
    """The pairs that the job was tested on, or for the hold-out such as are drawn here; None where there are none."""
    if job.validation == "folds":
        of_protocol = facts.pairs.split == job.protocol
        ids = np.stack([facts.pairs.mri[of_protocol], facts.pairs.ct[of_protocol]])
    else:
        ids = _draw_pairs(job, seed)
    order = np.argsort(job.image_id)
    listed = job.image_id[order]
    place = np.minimum(np.searchsorted(listed, ids), listed.size - 1)
    rows = order[place[:, (listed[place] == ids).all(axis=0)]]
    if not rows.size:
        return None
    owners, classes = list[IntArray](), list[IntArray]()
    for side in rows:
        _, first, owner = np.unique(job.patient_id[side], return_index=True, return_inverse=True)
        owners.append(owner.astype(np.int64))
        classes.append(job.target[side][first])
    score = job.score[rows].mean(axis=0)
    return PairScores(job.target[rows[0]], score, owners[0], owners[1], classes[0], classes[1])


def _draw_pairs(job: Predictions, seed: int) -> TextArray:
    """Pairs of one class at random, as the network is trained on: (2, M) ids."""
    columns = {"image_id": job.image_id, "modality": job.modality, "target": job.target}
    pairs = cast(Any, pair_images)(cast(Any, pd).DataFrame(columns), seed)
    return np.asarray([pairs["mri_image_id"].tolist(), pairs["ct_image_id"].tolist()], dtype=np.str_)


def _measure(pairs: PairScores, weights: FloatArray, threshold: float) -> dict[MetricName, FloatArray]:
    positive: BoolArray = pairs.target == 1
    right = decide(pairs.score, threshold) == positive
    positives, negatives = weights[:, positive].sum(axis=1), weights[:, ~positive].sum(axis=1)
    total = positives + negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = weights[:, positive & right].sum(axis=1) / positives
        specificity = weights[:, ~positive & right].sum(axis=1) / negatives
        return {
            "accuracy": weights[:, right].sum(axis=1) / total,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "roc_auc": weigh_areas(pairs.target, pairs.score, weights),
            "brier": weights @ (pairs.score - pairs.target) ** 2 / total,
        }
