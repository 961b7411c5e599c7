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
from osteo_models.evaluation.bootstrap import MetricName, compute_metrics, sum_patients
from osteo_models.evaluation.cases import Cases, FloatArray, IntArray, TextArray
from osteo_models.evaluation.facts import Facts
from osteo_models.evaluation.metrics import Measure, Summary
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, identify

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
    """Scored pairs.

    Args:
        patients: Of both modalities.

    Shapes:
        target, score: (M,).
    """

    target: IntArray
    score: FloatArray
    patients: int


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
    row |= {"n": pairs.target.size, "n_patients": pairs.patients}
    row |= {"note": "n counts pairs, each of two patients; no interval, as none was shown to cover"}
    names = np.arange(pairs.target.size).astype(np.str_)
    sums = sum_patients(Cases(pairs.target, pairs.score, names, has_patients=False), measure.threshold)
    for name, value in compute_metrics(sums, USE_METRICS).items():
        yield row | {"metric": name, "value": None if np.isnan(value) else value}


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
    score = job.score[rows].mean(axis=0)
    return PairScores(job.target[rows[0]], score, sum(np.unique(job.patient_id[side]).size for side in rows))


def _draw_pairs(job: Predictions, seed: int) -> TextArray:
    """Pairs of one class at random, as the network is trained on: (2, M) ids."""
    columns = {"image_id": job.image_id, "modality": job.modality, "target": job.target}
    pairs = cast(Any, pair_images)(cast(Any, pd).DataFrame(columns), seed)
    return np.asarray([pairs["mri_image_id"].tolist(), pairs["ct_image_id"].tolist()], dtype=np.str_)
