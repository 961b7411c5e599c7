"""The metrics of one set of scored images, each with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.core.errors import InputError
from osteo_models.core.terms import decide
from osteo_models.evaluation.calibration import jackknife
from osteo_models.evaluation.intervals import (
    FEWEST_PATIENTS,
    Interval,
    balanced_interval,
    clustered_auc_interval,
    mean_interval,
)
from osteo_models.evaluation.patient_level import METRIC_NAMES, MetricName, PatientSums, compute_metrics, sum_patients
from osteo_models.evaluation.scored_cases import FloatArray, check_cases

# How an interval was made. "effective patients": Clopper-Pearson's at the effective number of patients; "jackknife": of
# patients, for the calibration; "too few patients": of a class that the figure needs, for an interval that covers;
# "undefined": the figure, or the fit without one of the patients, does not exist.
IntervalKind = Literal["effective patients", "jackknife", "too few patients", "undefined"]
SEED: Final = 2023
COUNTS: Final = ("n", "n_patients", "n_positive", "n_negative")


@dataclass(frozen=True)
class Measure:
    """Decision threshold of the metrics, and the seed of random draws."""

    threshold: float = 0.5
    seed: int = SEED


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval; None is "undefined", such as a sensitivity without a positive case."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    interval: IntervalKind

    def flatten(self, name: str) -> dict[str, float]:
        """`name`, `name.ci_low` and `name.ci_high`, without what is undefined."""
        values = {name: self.value, f"{name}.ci_low": self.ci_low, f"{name}.ci_high": self.ci_high}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Summary:
    """All metrics of one set of scored images at one threshold.

    Args:
        roc_auc: Area under the ROC curve of the scores.
        balanced_accuracy_as_auc: Area under the ROC curve of the decisions, which equals the balanced accuracy; the
            paper printed this figure.
        calibration_slope, calibration_intercept: Logistic recalibration; undefined where scores separate the
            classes, and with an undefined interval where they do so without one of the patients.
        n: Images.
        n_patients: Patients, None where they are not known (each image then counts as independent).
    """

    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    balanced_accuracy: Estimate
    roc_auc: Estimate
    balanced_accuracy_as_auc: Estimate
    brier: Estimate
    calibration_slope: Estimate
    calibration_intercept: Estimate
    n: int
    n_patients: int | None
    n_positive: int
    n_negative: int
    true_positives: int
    true_negatives: int
    threshold: float

    def estimates(self) -> dict[MetricName, Estimate]:
        """The metrics by name, in the order of the paper's tables."""
        return {name: getattr(self, name) for name in METRIC_NAMES}

    def flatten(self, prefix: str = "") -> dict[str, float]:
        """Names and numbers for MLflow and DVC: `balanced_accuracy`, `balanced_accuracy.ci_low`, `n`, ...

        What is undefined is left out.

        Args:
            prefix: Put before each name with a dot, such as `<stage>.patient`.
        """
        counts = {name: getattr(self, name) for name in COUNTS}
        numbers = {key: x for name, estimate in self.estimates().items() for key, x in estimate.flatten(name).items()}
        numbers |= {name: float(count) for name, count in counts.items() if count is not None}
        return {f"{prefix}.{name}" if prefix else name: value for name, value in numbers.items()}


def summarize(
    target: ArrayLike,
    score: ArrayLike,
    *,
    threshold: float = 0.5,
    patient_id: Iterable[Any] | None = None,
) -> Summary:
    """Metrics with 95 % intervals that count patients.

    Args:
        target: 0 (control) or 1 (osteoporosis) per image.
        score: Probability of osteoporosis in [0, 1]; the decision is `score >= threshold`.
        threshold: In [0, 1].
        patient_id: The patient of each image. Without it images count as independent, which slices of one patient are
            not.

    Returns:
        The summary. A metric whose class is missing, the area of constant scores, and an interval from fewer than five
        patients of a class that the metric needs are None.

    Raises:
        InputError: NaN, other lengths, targets not 0 or 1, scores or threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:  # NaN fails here too
        raise InputError(f"`threshold` is {threshold!r}", allowed="a number in [0, 1]")
    cases = check_cases(target, score, patient_id)
    sums = sum_patients(cases, threshold)
    return Summary(
        **estimate_metrics(sums, METRIC_NAMES),
        n=cases.target.size,
        n_patients=sums.positives.size if cases.has_patients else None,
        n_positive=cases.n_positive,
        n_negative=cases.n_negative,
        true_positives=int(sums.true_positives.sum()),
        true_negatives=int(sums.true_negatives.sum()),
        threshold=float(threshold),
    )


def estimate_metrics(sums: PatientSums, names: Sequence[MetricName]) -> dict[MetricName, Estimate]:
    """Metrics with their intervals, from sums over patients."""
    values = compute_metrics(sums, names)
    defined: list[MetricName] = [name for name in names if math.isfinite(values[name])]
    enough: list[MetricName] = [name for name in defined if _count_fewest(sums, name) >= FEWEST_PATIENTS]
    intervals = _find_intervals(sums, enough)
    estimates: dict[MetricName, Estimate] = {}
    for name in names:
        interval = intervals.get(name)
        if name not in defined:
            estimates[name] = Estimate(None, None, None, "undefined")
        elif interval is None:
            kind: IntervalKind = "undefined" if name in intervals else "too few patients"
            estimates[name] = Estimate(values[name], None, None, kind)
        else:
            kind = "jackknife" if name.startswith("calibration") else "effective patients"
            estimates[name] = Estimate(values[name], *interval, kind)
    return estimates


def _count_fewest(sums: PatientSums, name: MetricName) -> int:
    """Patients of the smallest class that a metric needs; for a mean over all patients, of a class on average."""
    positive, negative = sums.class_sizes
    if name in ("sensitivity", "specificity"):
        return positive if name == "sensitivity" else negative
    if name in ("accuracy", "brier"):  # such as those of an age band, which hardly ever holds both classes in numbers
        return (positive + negative) // (2 if positive and negative else 1)
    return min(positive, negative)


def _find_intervals(sums: PatientSums, names: Iterable[MetricName]) -> dict[MetricName, Interval | None]:
    """Intervals of metrics that exist and have enough patients; None where it is undefined."""
    positive, negative, has_images = sums.positives > 0, sums.negatives > 0, sums.images > 0
    sensitivity = (sums.true_positives[positive], sums.positives[positive])
    specificity = (sums.true_negatives[negative], sums.negatives[negative])
    intervals: dict[MetricName, Interval | None] = {}
    for name in names:
        if name in ("accuracy", "brier"):
            totals = sums.right if name == "accuracy" else sums.squared_error
            intervals[name] = mean_interval(totals[has_images], sums.images[has_images])
        elif name in ("sensitivity", "specificity"):
            intervals[name] = mean_interval(*(sensitivity if name == "sensitivity" else specificity))
        elif bool((positive & negative).any()):
            intervals[name] = None  # the classes are not independent where a patient has images of both
        elif name in ("balanced_accuracy", "balanced_accuracy_as_auc"):
            intervals[name] = balanced_interval(*sensitivity, *specificity)
        elif name == "roc_auc":
            above, below = sums.above[positive], sums.below[negative]
            intervals[name] = clustered_auc_interval(above, sensitivity[1], below, specificity[1])
        elif name not in intervals:
            classes = [np.flatnonzero(members) for members in (positive, negative)]
            slope, intercept = jackknife(sums.target, sums.logit, sums.owner, classes)
            intervals |= {"calibration_slope": slope, "calibration_intercept": intercept}
    return intervals


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
    names, owner = np.unique(np.asarray(fold), return_inverse=True)
    right = decide(cases.score, threshold) == (cases.target == 1)
    parts: list[FloatArray] = []
    for label in (1, 0):
        members = cases.target == label
        counts = np.bincount(owner[members], minlength=names.size)
        if not counts.all():
            return Estimate(None, None, None, "undefined")
        weights = 1 / counts[owner[members]]
        parts += [weights * right[members], weights]
    value = (float(parts[0].sum()) + float(parts[2].sum())) / (2 * names.size)
    if min(parts[1].size, parts[3].size) < FEWEST_PATIENTS:
        return Estimate(value, None, None, "too few patients")
    return Estimate(value, *balanced_interval(*parts), "effective patients")
