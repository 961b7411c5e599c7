"""The ROC curve as points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.errors import InputError
from osteo_models.evaluation.cases import FloatArray, check_cases


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1); a threshold of infinity decides for nobody.

    Shapes:
        false_positive_rate, true_positive_rate, threshold: (T,), corner points only.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    threshold: FloatArray


def trace_roc(target: ArrayLike, score: ArrayLike) -> RocCurve:
    """The ROC curve of scores, without points on a straight line between their neighbours.

    Raises:
        InputError: As in `summarize`, and where a class is missing: there is no curve then.
    """
    cases = check_cases(target, score)
    if not cases.n_positive or not cases.n_negative:
        raise InputError("one class is missing: there is no ROC curve", where="`target`", allowed="both classes")
    order = np.argsort(-cases.score, kind="stable")
    scores = cases.score[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)  # equal scores move together
    hits = np.append(0, np.cumsum(cases.target[order])[ends])
    alarms = np.append(0, ends + 1 - hits[1:])
    corner = np.ones(hits.size, dtype=np.bool_)
    turn = np.diff(hits[:-1]) * np.diff(alarms[1:]) - np.diff(alarms[:-1]) * np.diff(hits[1:])
    corner[1:-1] = turn != 0
    thresholds = np.append(np.inf, scores[ends])
    return RocCurve(
        (alarms / cases.n_negative)[corner], (hits / cases.n_positive)[corner], thresholds[corner].astype(np.float64)
    )
