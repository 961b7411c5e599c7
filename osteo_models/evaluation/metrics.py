"""The metrics of one set of scored images, each with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.errors import InputError
from osteo_models.evaluation.bootstrap import (
    METRIC_NAMES,
    RESAMPLES,
    MetricName,
    PatientSums,
    compute_metrics,
    draw_weights,
    sum_patients,
)
from osteo_models.evaluation.cases import Cases, check_cases
from osteo_models.evaluation.intervals import percentile_interval, proportion_interval

# What an interval was made with. "wilson_patients": no patient differs from the others (all right, say), the bootstrap
# has no spread, and Wilson's interval counts patients, not images. "undefined": nothing honest can be said.
IntervalKind = Literal["bootstrap", "wilson_patients", "undefined"]
SEED: Final = 2023


@dataclass(frozen=True)
class Measure:
    """How figures are made: decisions from `threshold` on, intervals from so many resamples of this seed."""

    threshold: float = 0.5
    seed: int = SEED
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval; None is "undefined", such as a sensitivity without a positive case."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    interval: IntervalKind


@dataclass(frozen=True)
class Summary:
    """All metrics of one set of scored images at one threshold.

    Args:
        roc_auc: Area under the ROC curve of the scores.
        roc_auc_hard: Area of the decisions alone, which is the balanced accuracy: the figure that the paper printed.
        calibration_slope, calibration_intercept: Of the logistic recalibration; undefined where scores separate the
            classes, and with an undefined interval where they do so in a resample.
        n: Images.
        n_patients: Patients, None where they are not known (each image then counts as independent).
    """

    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    balanced_accuracy: Estimate
    roc_auc: Estimate
    roc_auc_hard: Estimate
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
        found: dict[str, float | None] = {}
        for name, estimate in self.estimates().items():
            found[name] = estimate.value
            found[f"{name}.ci_low"] = estimate.ci_low
            found[f"{name}.ci_high"] = estimate.ci_high
        counts = {"n": self.n, "n_patients": self.n_patients}
        counts |= {"n_positive": self.n_positive, "n_negative": self.n_negative}
        head = f"{prefix}." if prefix else ""
        return {f"{head}{name}": float(value) for name, value in (found | counts).items() if value is not None}


def summarize(
    target: ArrayLike,
    score: ArrayLike,
    *,
    threshold: float = 0.5,
    patient_id: Iterable[Any] | None = None,
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Summary:
    """Metrics with 95 % intervals from a bootstrap of whole patients.

    Args:
        target: 0 (control) or 1 (osteoporosis) per image.
        score: Probability of osteoporosis in [0, 1]; the decision is `score >= threshold`.
        threshold: In [0, 1].
        patient_id: Whose image it is. Without it images count as independent, which slices of one patient are not.
        seed: Of the bootstrap.
        resamples: Of the bootstrap, at least 100.

    Returns:
        The summary. A metric whose class is missing, the area of constant scores, and an interval from fewer than two
        patients of a class are None.

    Raises:
        InputError: NaN, other lengths, targets not 0 or 1, scores or threshold outside [0, 1], too few resamples.
    """
    if not 0 <= threshold <= 1:  # NaN fails here too
        raise InputError(f"`threshold` is {threshold!r}", allowed="a number in [0, 1]")
    if resamples < 100:
        raise InputError(f"`resamples` is {resamples!r}", allowed="at least 100; fewer make no 95 % interval")
    cases = check_cases(target, score, patient_id)
    sums = sum_patients(cases, threshold)
    return _gather(cases, sums, estimate_metrics(sums, METRIC_NAMES, seed=seed, resamples=resamples), threshold)


def estimate_metrics(
    sums: PatientSums, names: Sequence[MetricName], *, seed: int = SEED, resamples: int = RESAMPLES
) -> dict[MetricName, Estimate]:
    """Metrics with their bootstrap intervals, from sums over patients."""
    point = compute_metrics(sums, np.ones((1, sums.positives.size)), names)
    samples = compute_metrics(sums, draw_weights(sums.stratum, resamples, seed), names)
    enough = _enough_patients(sums)
    found: dict[MetricName, Estimate] = {}
    for name in names:
        interval = percentile_interval(samples[name]) if enough[name] else None
        found[name] = _estimate(float(point[name][0]), interval)
    return _mend_flat(found, sums, enough)


def _estimate(value: float, interval: tuple[float, float] | None) -> Estimate:
    if not math.isfinite(value):
        return Estimate(None, None, None, "undefined")
    if interval is None:
        return Estimate(value, None, None, "undefined")
    return Estimate(value, interval[0], interval[1], "bootstrap")


def _enough_patients(sums: PatientSums) -> dict[MetricName, bool]:
    """Whether a metric rests on two patients of each class that it needs: one patient has no spread."""
    positive, negative = int((sums.positives > 0).sum()), int((sums.negatives > 0).sum())
    present = [count for count in (positive, negative) if count]
    enough: dict[MetricName, bool] = dict.fromkeys(METRIC_NAMES, positive > 1 and negative > 1)
    enough["accuracy"] = enough["brier"] = all(count > 1 for count in present)
    enough["sensitivity"], enough["specificity"] = positive > 1, negative > 1
    return enough


def _mend_flat(
    found: Mapping[MetricName, Estimate], sums: PatientSums, enough: Mapping[MetricName, bool]
) -> dict[MetricName, Estimate]:
    """Give proportions of exactly 0 or 1 an interval: the bootstrap cannot see errors that did not happen yet."""
    mended = dict(found)
    classes: tuple[tuple[MetricName, int], ...] = (
        ("sensitivity", int((sums.positives > 0).sum())),
        ("specificity", int((sums.negatives > 0).sum())),
        ("accuracy", sums.positives.size),
    )
    for name, patients in classes:
        if name not in found:
            continue
        value = found[name].value
        if enough[name] and found[name].interval == "undefined" and value in (0.0, 1.0):
            low, high = proportion_interval(patients if value else 0, patients, "wilson")
            mended[name] = Estimate(value, low, high, "wilson_patients")
    sensitivity, specificity = mended.get("sensitivity"), mended.get("specificity")
    if sensitivity and specificity and sensitivity.interval == specificity.interval == "wilson_patients":
        low = ((sensitivity.ci_low or 0.0) + (specificity.ci_low or 0.0)) / 2
        high = ((sensitivity.ci_high or 0.0) + (specificity.ci_high or 0.0)) / 2
        for name in ("balanced_accuracy", "roc_auc_hard"):
            if name in found:
                mended[name] = Estimate(found[name].value, low, high, "wilson_patients")
    return mended


def _gather(cases: Cases, sums: PatientSums, found: Mapping[MetricName, Estimate], threshold: float) -> Summary:
    return Summary(
        **found,
        n=cases.target.size,
        n_patients=sums.positives.size if cases.has_patients else None,
        n_positive=cases.n_positive,
        n_negative=cases.n_negative,
        true_positives=int(sums.true_positives.sum()),
        true_negatives=int(sums.true_negatives.sum()),
        threshold=float(threshold),
    )
