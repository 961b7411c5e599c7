"""The mean over folds of the balanced accuracy of patients, with its uncertainty."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.evaluation.bootstrap import RESAMPLES, compute_metrics, draw_weights, sum_patients
from osteo_models.evaluation.cases import FloatArray, check_cases
from osteo_models.evaluation.intervals import percentile_interval
from osteo_models.evaluation.metrics import SEED, Estimate, summarize


def summarize_folds(
    target: ArrayLike,
    score: ArrayLike,
    fold: ArrayLike,
    *,
    threshold: float = 0.5,
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean over folds of the balanced accuracy, with a 95 % interval from a bootstrap of patients within their fold.

    Shapes: target, score, fold: (P,), one row per patient.

    Returns:
        The estimate. Where no fold has any spread (every patient right, say), the interval is that of all patients
        pooled; see `summarize`. The value is None where a fold lacks a class.

    Raises:
        InputError: as `summarize`.
    """
    cases = check_cases(target, score)
    folds = np.asarray(fold)
    names = np.unique(folds)
    value, samples = 0.0, np.zeros(resamples)
    for place, name in enumerate(names):
        part = folds == name
        sums = sum_patients(check_cases(cases.target[part], cases.score[part]), threshold)
        weights = draw_weights(sums.stratum, resamples, seed + place)
        once: FloatArray = np.ones((1, sums.positives.size))
        value += float(compute_metrics(sums, once)["balanced_accuracy"][0]) / names.size
        samples += compute_metrics(sums, weights)["balanced_accuracy"] / names.size
    if np.isnan(value):
        return Estimate(None, None, None, "undefined")
    interval = percentile_interval(samples)
    if interval is not None:
        return Estimate(value, interval[0], interval[1], "bootstrap")
    pooled = summarize(cases.target, cases.score, threshold=threshold, seed=seed, resamples=resamples).balanced_accuracy
    return Estimate(value, pooled.ci_low, pooled.ci_high, pooled.interval)
