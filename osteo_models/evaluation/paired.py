"""Two sets of scores of the same patients: the difference of a metric, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.evaluation.delong import delong_test
from osteo_models.evaluation.intervals import FEWEST_PATIENTS, Z_95, Figure, difference_interval
from osteo_models.evaluation.metrics import Estimate, Measure, estimate_metrics
from osteo_models.evaluation.patient_level import MetricName, PatientSums, sum_patients
from osteo_models.evaluation.scored_cases import Cases, FloatArray, IntArray, TextArray, average_patients, check_cases

POWER: Final = 0.80
Z_POWER: Final = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Difference:
    """A metric of two sets of scores; None is "undefined". The interval is the 95 % one of first - second."""

    first: float | None
    second: float | None
    ci_low: float | None
    ci_high: float | None

    @property
    def value(self) -> float | None:
        return None if self.first is None or self.second is None else self.first - self.second


def compare_scores(
    first: Cases, second: Cases, names: Sequence[MetricName], measure: Measure
) -> dict[MetricName, Difference]:
    """Differences of metrics with intervals from each side's own and the correlation over the patients of both.

    The images need not be the same ones, and a patient may be on one side only. Equal scores of the same images have
    a difference of exactly 0.
    """
    everyone = np.union1d(first.patient, second.patient).tolist()
    sums = [sum_patients(cases, measure.threshold, everyone) for cases in (first, second)]
    sides = [estimate_metrics(one, names) for one in sums]
    equal = all(
        np.array_equal(getattr(first, column), getattr(second, column)) for column in ("target", "score", "patient")
    )
    differences: dict[MetricName, Difference] = {}
    for name in names:
        figures = [_read_figure(side[name]) for side in sides]
        low, high = None, None
        if equal and sides[0][name].value is not None:
            low, high = 0.0, 0.0
        elif figures[0] is not None and figures[1] is not None:
            low, high = difference_interval(figures[0], figures[1], _correlate(sums[0], sums[1], name))
        differences[name] = Difference(sides[0][name].value, sides[1][name].value, low, high)
    return differences


def _read_figure(estimate: Estimate) -> Figure | None:
    if estimate.value is None or estimate.ci_low is None or estimate.ci_high is None:
        return None
    return Figure(estimate.value, estimate.ci_low, estimate.ci_high)


def _correlate(first: PatientSums, second: PatientSums, name: MetricName) -> float:
    """Correlation of a metric's two values over cohorts, from patients; 0 where either has no spread.

    It is taken a little smaller than estimated, by one patient of the smaller class: a few patients agree by chance.
    """
    a, b = _find_influence(first, name), _find_influence(second, name)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    smaller = min(count for count in first.class_sizes if count)
    return float(a @ b) / scale * (1 - 1 / smaller) if scale > 0 else 0.0


def _find_influence(sums: PatientSums, name: MetricName) -> FloatArray:
    """How far each patient moves a metric, (P,); the squares add up to its clustered variance."""

    def of_mean(total: FloatArray, size: FloatArray) -> FloatArray:
        images = max(float(size.sum()), 1.0)
        return (total - size * float(total.sum()) / images) / images

    if name in ("accuracy", "brier"):
        return of_mean(sums.right if name == "accuracy" else sums.squared_error, sums.images)
    if name == "roc_auc":
        return of_mean(sums.above, sums.positives) + of_mean(sums.below, sums.negatives)
    sensitivity = of_mean(sums.true_positives, sums.positives)
    specificity = of_mean(sums.true_negatives, sums.negatives)
    rates = {"sensitivity": sensitivity, "specificity": specificity}
    return rates.get(name, (sensitivity + specificity) / 2)


@dataclass(frozen=True)
class PairedScores:
    """The scores of two models on the same images.

    Shapes:
        target, patient_id, first, second: (N,).
    """

    target: IntArray
    patient_id: TextArray
    first: FloatArray
    second: FloatArray


@dataclass(frozen=True)
class PairedDifference:
    """The first model's AUC minus the second's, with 95 % intervals.

    An interval is None where nothing varies, or with fewer than five patients of a class.

    Args:
        difference: Difference of the AUCs of patients' mean scores; `delong` is its interval.
        image_difference: Difference of the AUCs of images; `by_image` is its interval, see docs/statistics.md.
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
    patients = average_patients(scores.target, [scores.first, scores.second], scores.patient_id)
    test = delong_test(patients.target, *patients.scores)
    delong = None if test.ci_low is None or test.ci_high is None else (test.ci_low, test.ci_high)
    if delong == (0.0, 0.0) and not np.array_equal(scores.first, scores.second):
        delong = None  # equal curves of other scores, such as two perfect ones: nothing varies
    fewest = int(np.bincount(patients.target, minlength=2).min())
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
        n_patients=patients.name.size,
        fewest=fewest,
    )


def _compare_images(scores: PairedScores) -> tuple[float | None, tuple[float, float] | None]:
    """The difference on images with its interval, which counts patients."""
    if np.array_equal(scores.first, scores.second):
        return 0.0, (0.0, 0.0)
    cases: list[Cases] = [check_cases(scores.target, part, scores.patient_id) for part in (scores.first, scores.second)]
    difference = compare_scores(cases[0], cases[1], ("roc_auc",), Measure())["roc_auc"]
    interval = (
        None if difference.ci_low is None or difference.ci_high is None else (difference.ci_low, difference.ci_high)
    )
    return difference.value, interval
