"""Two models on the same images: the difference of their areas under the ROC curve, and what could have been seen.

Slices of one patient are not independent, so both intervals count patients: DeLong's on the patients' mean scores, and
that of the difference on the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from osteo_models.errors import InputError
from osteo_models.evaluation.cases import Cases, FloatArray, IntArray, TextArray, check_cases
from osteo_models.evaluation.delong import delong_test
from osteo_models.evaluation.intervals import Z_95
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patients import score_patients

POWER: Final = 0.80
FEWEST_PATIENTS: Final = 5  # of each class; with fewer neither interval covers what it says
Z_POWER: Final = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class PairedScores:
    """What two models say of the same images.

    Shapes:
        target, patient_id, first, second: (N,).
    """

    target: IntArray
    patient_id: TextArray
    first: FloatArray
    second: FloatArray


@dataclass(frozen=True)
class PairedDifference:
    """The first model's area minus the second's, each with its 95 % interval.

    An interval is None where nothing varies, or with fewer than five patients of a class: nothing can be said then.

    Args:
        difference: Of the patients' mean scores (DeLong).
        image_difference: Of the images; `by_image` is its interval, see docs/statistics.md.
        fewest: Patients of the smaller class.
        detectable: The smallest true difference that a two-sided test at 5 % would have found with 80 % power, from
            the standard error of this pair; None where there is no spread.
    """

    auc_first: float
    auc_second: float
    difference: float
    delong: tuple[float, float] | None
    image_difference: float | None
    by_image: tuple[float, float] | None
    detectable: float | None
    n: int
    n_patients: int
    fewest: int


def compare_pair(scores: PairedScores) -> PairedDifference:
    """Compare two models on the same images.

    Raises:
        InputError: Fewer than two patients of a class, constant scores, NaN, a patient with both targets.

    Source:
        DeLong et al., Biometrics 1988;44:837. Smallest detectable difference: (z(0.975) + z(0.80)) standard errors.
    """
    for name, part in (("score_a", scores.first), ("score_b", scores.second)):
        if np.ptp(part) == 0:  # patients' means differ in the last bit, and would hide it
            raise InputError(
                f"`{name}` is {part[0]:g} everywhere", allowed="scores that differ: there is no curve else"
            )
    first, second = (_mean_scores(scores, part) for part in (scores.first, scores.second))
    test = delong_test(first[0], first[1], second[1])
    delong = None if test.ci_low is None or test.ci_high is None else (test.ci_low, test.ci_high)
    if delong == (0.0, 0.0) and not np.array_equal(scores.first, scores.second):
        delong = None  # equal curves of other scores, such as two perfect ones: nothing varies
    fewest = int(min(np.bincount(first[0], minlength=2)))
    point, by_image = _compare_images(scores)
    if fewest < FEWEST_PATIENTS:
        delong = by_image = None
    error = 0.0 if delong is None else (delong[1] - delong[0]) / (2 * Z_95)
    return PairedDifference(
        auc_first=test.auc_a,
        auc_second=test.auc_b,
        difference=test.auc_a - test.auc_b,
        delong=delong,
        image_difference=point,
        by_image=by_image,
        detectable=(Z_95 + Z_POWER) * error if error > 0 else None,
        n=scores.target.size,
        n_patients=first[0].size,
        fewest=fewest,
    )


def _mean_scores(scores: PairedScores, score: FloatArray) -> tuple[IntArray, FloatArray]:
    patients = score_patients(scores.target, score, scores.patient_id)
    target = np.asarray([patient.target for patient in patients], dtype=np.int64)
    return target, np.asarray([patient.score for patient in patients])


def _compare_images(scores: PairedScores) -> tuple[float | None, tuple[float, float] | None]:
    """The difference on images with its interval, which counts patients."""
    if np.array_equal(scores.first, scores.second):
        return 0.0, (0.0, 0.0)
    cases: list[Cases] = [check_cases(scores.target, part, scores.patient_id) for part in (scores.first, scores.second)]
    found = compare_scores(cases[0], cases[1], ("roc_auc",), Measure())["roc_auc"]
    interval = None if found.ci_low is None or found.ci_high is None else (found.ci_low, found.ci_high)
    return found.value, interval
