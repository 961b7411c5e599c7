"""Two sets of scores of the same patients: the difference of a metric, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osteo_models.evaluation.bootstrap import MetricName, compute_metrics, draw_weights, sum_patients
from osteo_models.evaluation.cases import Cases
from osteo_models.evaluation.intervals import percentile_interval
from osteo_models.evaluation.metrics import Measure


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
    """Difference of metrics by a paired bootstrap: a resample draws the same patients for both.

    The images need not be the same ones; a patient whom only one side scored still has a class.
    """
    everyone = np.union1d(first.patient, second.patient).tolist()
    a, b = (sum_patients(cases, measure.threshold, everyone) for cases in (first, second))
    stratum = np.where(a.positives + b.positives > 0, 1, 0).astype(np.int64)
    once, weights = np.ones((1, len(everyone))), draw_weights(stratum, measure.resamples, measure.seed)
    points = [compute_metrics(sums, once, names) for sums in (a, b)]
    samples = [compute_metrics(sums, weights, names) for sums in (a, b)]
    enough = min(np.bincount(stratum, minlength=2)) > 1  # one patient of a class has no spread
    found: dict[MetricName, Difference] = {}
    for name in names:
        one, other = (None if np.isnan(point[name][0]) else float(point[name][0]) for point in points)
        interval = percentile_interval(samples[0][name] - samples[1][name]) if enough else None
        found[name] = Difference(one, other, *(interval or (None, None)))
    return found
