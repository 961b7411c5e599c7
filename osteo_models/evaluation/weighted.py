"""ROC curves of weighted images, for all resamples at once."""

from __future__ import annotations

from typing import Final

import numpy as np

from osteo_models.evaluation.cases import Cases, FloatArray, IntArray

GRID: Final = np.linspace(0, 1, 51)


def weigh_areas(target: IntArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve at each row of image weights, ties as a half; NaN where a class or the curve is missing.

    Shapes:
        target, score: (N,); weights: (B, N). Returns: (B,).
    """
    if float(np.ptp(score)) == 0:
        return np.full(len(weights), np.nan)
    hits, alarms = _climb(target, score, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (np.diff(alarms, axis=1) * (hits[:, 1:] + hits[:, :-1])).sum(axis=1) / 2
        return area / (hits[:, -1] * alarms[:, -1])


def weigh_curves(cases: Cases, owner: IntArray, weights: FloatArray) -> FloatArray:
    """True positive rates at the false positive rates of `GRID`, at each row of patient weights.

    Between two corners of a curve lies the straight line of a random choice between them. Each class must have weight
    in every row.

    Shapes:
        owner: (N,), the column of `weights` (B, P) that an image belongs to. Returns: (B, 51).
    """
    found = np.empty((len(weights), GRID.size))
    for row, (hits, alarms) in enumerate(zip(*_climb(cases.target, cases.score, weights[:, owner]), strict=True)):
        # where several points share a rate, interp takes the last of them: the highest
        found[row] = np.interp(GRID, alarms / alarms[-1], hits / hits[-1])
    return found


def _climb(target: IntArray, score: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of positives and of negatives at or above each distinct score, from none to all: (B, T + 1) each."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), score.size - 1)
    sorted_weights = weights[:, order]
    positive = target[order] == 1
    start = np.zeros((len(weights), 1))
    hits = np.cumsum(np.where(positive, sorted_weights, 0), axis=1)[:, ends]
    alarms = np.cumsum(np.where(positive, 0, sorted_weights), axis=1)[:, ends]
    return np.hstack([start, hits]), np.hstack([start, alarms])
