"""Two sets of scores of the same patients: the difference of a metric, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osteo_models.evaluation.bootstrap import MetricName, PatientSums, sum_patients
from osteo_models.evaluation.cases import Cases, FloatArray
from osteo_models.evaluation.effective import Figure, difference_interval
from osteo_models.evaluation.metrics import Estimate, Measure, estimate_metrics


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

    The images need not be the same ones, and a patient may be on one side only. Equal scores of the same images differ
    by nothing, for certain.
    """
    everyone = np.union1d(first.patient, second.patient).tolist()
    sums = [sum_patients(cases, measure.threshold, everyone) for cases in (first, second)]
    sides = [estimate_metrics(one, names) for one in sums]
    equal = all(
        np.array_equal(getattr(first, column), getattr(second, column)) for column in ("target", "score", "patient")
    )
    found: dict[MetricName, Difference] = {}
    for name in names:
        figures = [_read_figure(side[name]) for side in sides]
        low, high = None, None
        if equal and sides[0][name].value is not None:
            low, high = 0.0, 0.0
        elif figures[0] is not None and figures[1] is not None:
            low, high = difference_interval(figures[0], figures[1], _correlate(sums[0], sums[1], name))
        found[name] = Difference(sides[0][name].value, sides[1][name].value, low, high)
    return found


def _read_figure(one: Estimate) -> Figure | None:
    if one.value is None or one.ci_low is None or one.ci_high is None:
        return None
    return Figure(one.value, one.ci_low, one.ci_high)


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
    hits, rejections = of_mean(sums.true_positives, sums.positives), of_mean(sums.true_negatives, sums.negatives)
    rates = {"sensitivity": hits, "specificity": rejections}
    return rates.get(name, (hits + rejections) / 2)
