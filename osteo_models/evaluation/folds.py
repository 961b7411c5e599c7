"""The mean over folds of the balanced accuracy of patients, with its uncertainty."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.evaluation.cases import FloatArray, check_cases
from osteo_models.evaluation.effective import FEWEST_PATIENTS, balanced_interval
from osteo_models.evaluation.metrics import Estimate
from osteo_models.terms import decide


def summarize_folds(target: ArrayLike, score: ArrayLike, fold: ArrayLike, *, threshold: float = 0.5) -> Estimate:
    """Mean over folds of the balanced accuracy, with a 95 % interval that counts patients.

    Each rate's mean over folds is a mean of patients, weighted by one over the number of their class in their fold.

    Shapes: target, score, fold: (P,), one row per patient.

    Returns:
        The estimate; see `summarize`. The value is None where a fold lacks a class.

    Raises:
        InputError: as `summarize`.
    """
    cases = check_cases(target, score)
    names, place = np.unique(np.asarray(fold), return_inverse=True)
    right = decide(cases.score, threshold) == (cases.target == 1)
    parts: list[FloatArray] = []
    for label in (1, 0):
        members = cases.target == label
        counts = np.bincount(place[members], minlength=names.size)
        if not counts.all():
            return Estimate(None, None, None, "undefined")
        weights = 1 / counts[place[members]]
        parts += [weights * right[members], weights]
    value = (float(parts[0].sum()) + float(parts[2].sum())) / (2 * names.size)
    if min(parts[1].size, parts[3].size) < FEWEST_PATIENTS:
        return Estimate(value, None, None, "too few patients")
    return Estimate(value, *balanced_interval(*parts), "effective patients")
