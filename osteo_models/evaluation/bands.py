"""Curves with bands for the report: ROC and calibration of the jobs that left whole patients out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from osteo_models.evaluation.bootstrap import PatientSums, draw_weights
from osteo_models.evaluation.calibration import bin_scores
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row, identify
from osteo_models.evaluation.weighted import GRID, weigh_curves

CURVES: Final = 500  # resamples of a band at most: it is drawn, not tested


def band_rows(job: Predictions, sums: PatientSums, *, seed: int, resamples: int) -> Iterator[Row]:
    """The ROC curve on a grid with its pointwise 95 % band; none where there is no curve or one patient of a class."""
    few = min(int((sums.positives > 0).sum()), int((sums.negatives > 0).sum())) < 2
    if few or sums.constant:
        return
    weights = draw_weights(sums.stratum, min(resamples, CURVES), seed)
    middle = weigh_curves(job.cases, sums.owner, np.ones((1, weights.shape[1])))[0]
    low, high = np.percentile(weigh_curves(job.cases, sums.owner, weights), [2.5, 97.5], axis=0)
    for place, alarm in enumerate(GRID):
        row = identify(job) | {
            "false_positive_rate": round(float(alarm), 2),
            "true_positive_rate": float(middle[place]),
        }
        yield row | {"low": float(low[place]), "high": float(high[place])}


def calibration_rows(job: Predictions, sums: PatientSums, *, seed: int, resamples: int) -> Iterator[Row]:
    """The calibration curve by bins of scores, each with the interval of its observed share."""
    weights = draw_weights(sums.stratum, resamples, seed)
    for number, one in enumerate(bin_scores(job.cases, sums.owner, weights), 1):
        row = identify(job) | {"bin": number, "mean_score": one.mean_score, "observed": one.observed}
        yield row | {"low": one.ci_low, "high": one.ci_high, "n": one.images, "n_patients": one.patients}
