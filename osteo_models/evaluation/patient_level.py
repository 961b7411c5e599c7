"""The patient level: scores and accuracy of each patient (table 10), and metrics from sums over patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.core.terms import CLASS_NAMES, decide
from osteo_models.evaluation.calibration import recalibrate, take_logit
from osteo_models.evaluation.roc import find_placements
from osteo_models.evaluation.scored_cases import (
    BoolArray,
    Cases,
    FloatArray,
    IntArray,
    average_patients,
    check_cases,
)

MetricName = Literal[
    "accuracy",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "balanced_accuracy_as_auc",
    "brier",
    "calibration_slope",
    "calibration_intercept",
]
METRIC_NAMES: Final[tuple[MetricName, ...]] = get_args(MetricName)
# What depends on the threshold alone.
DECISION_METRICS: Final[tuple[MetricName, ...]] = ("accuracy", "sensitivity", "specificity", "balanced_accuracy")


@dataclass(frozen=True)
class PatientResult:
    """One patient: the mean score of the images, and how many of them were classified correctly."""

    patient_id: str
    target: int
    score: float
    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share of the images that were classified correctly."""
        return self.correct / self.images


def score_patients(
    target: ArrayLike, score: ArrayLike, patient_id: Iterable[Any], *, threshold: float = 0.5
) -> list[PatientResult]:
    """Mean score and accuracy of each patient, ordered by patient_id.

    Raises:
        InputError: As in `summarize`, and where a patient's images have both targets.
    """
    cases = check_cases(target, score, patient_id)
    patients = average_patients(cases.target, [cases.score], cases.patient)
    correct = np.bincount(patients.owner, weights=decide(cases.score, threshold) == (cases.target == 1))
    columns = (patients.name, patients.target, patients.scores[0], patients.images, correct.astype(np.int64))
    return [PatientResult(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def find_extremes(patients: Sequence[PatientResult]) -> list[tuple[str, str, PatientResult]]:
    """Class, "minimum" or "maximum", and the patient with the lowest or highest accuracy; of equals the most images."""
    extremes: list[tuple[str, str, PatientResult]] = []
    for label, group in enumerate(CLASS_NAMES):
        members = [patient for patient in patients if patient.target == label]
        if members:
            worst = min(members, key=lambda one: (one.accuracy, -one.images, one.patient_id))
            best = min(members, key=lambda one: (-one.accuracy, -one.images, one.patient_id))
            extremes += [(group, "minimum", worst), (group, "maximum", best)]
    return extremes


@dataclass(frozen=True)
class PatientSums:
    """What each patient contributes to the metrics.

    Args:
        above: Concordance: sum over a patient's positive images of the share of negative images that score lower, ties
            as a half.
        below: Sum over a patient's negative images of the share of positive images that score higher.
        constant: Whether all scores are one value, so that there is no ROC curve.
        target, logit, owner: The images themselves, for the calibration; owner is the index of the patient.

    Shapes:
        positives, negatives, true_positives, true_negatives, squared_error, above, below: (P,).
        target, logit, owner: (N,).
    """

    positives: FloatArray
    negatives: FloatArray
    true_positives: FloatArray
    true_negatives: FloatArray
    squared_error: FloatArray
    above: FloatArray
    below: FloatArray
    constant: bool
    target: IntArray
    logit: FloatArray
    owner: IntArray

    @property
    def images(self) -> FloatArray:
        """Images of each patient."""
        return self.positives + self.negatives

    @property
    def right(self) -> FloatArray:
        """Rightly decided images of each patient."""
        return self.true_positives + self.true_negatives

    @property
    def class_sizes(self) -> tuple[int, int]:
        """Number of patients with positive images, and with negative ones."""
        return int((self.positives > 0).sum()), int((self.negatives > 0).sum())


def sum_patients(cases: Cases, threshold: float | FloatArray, patients: Sequence[str] | None = None) -> PatientSums:
    """Sum cases over patients, in the order of `patients` (all that occur, sorted, when not given).

    Args:
        threshold: One for all images, or one for each.
    """
    known, index = np.unique(cases.patient, return_inverse=True)
    size = known.size
    if patients is not None:
        order = {name: row for row, name in enumerate(patients)}
        index, size = np.asarray([order[str(name)] for name in known], dtype=np.int64)[index], len(patients)

    def total(values: FloatArray | BoolArray, owner: IntArray = index) -> FloatArray:
        return np.bincount(owner, weights=values, minlength=size).astype(np.float64, copy=False)

    positive = cases.target == 1
    decision = decide(cases.score, threshold)
    both = bool(positive.any()) and not bool(positive.all())
    shares = find_placements(cases.target, cases.score) if both else None
    return PatientSums(
        positives=total(positive),
        negatives=total(~positive),
        true_positives=total(positive & decision),
        true_negatives=total(~positive & ~decision),
        squared_error=total((cases.score - cases.target) ** 2),
        above=total(shares.positives, index[positive]) if shares else np.zeros(size),
        below=total(shares.negatives, index[~positive]) if shares else np.zeros(size),
        constant=float(np.ptp(cases.score)) == 0,
        target=cases.target,
        logit=take_logit(cases.score),
        owner=index,
    )


def compute_metrics(sums: PatientSums, names: Sequence[MetricName] = METRIC_NAMES) -> dict[MetricName, float]:
    """Metrics over all images; NaN where a class is missing, infinite or NaN where there is no curve or fit.

    Source:
        Equations 3-5 of the paper. The area from decisions equals the balanced accuracy; the paper printed it as AUC.
    """
    positives, negatives = float(sums.positives.sum()), float(sums.negatives.sum())
    sensitivity = float(sums.true_positives.sum()) / positives if positives else np.nan
    specificity = float(sums.true_negatives.sum()) / negatives if negatives else np.nan
    metrics: dict[MetricName, float] = {
        "accuracy": float(sums.right.sum()) / (positives + negatives),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "roc_auc": float(sums.above.sum()) / positives if positives and negatives and not sums.constant else np.nan,
        "balanced_accuracy_as_auc": (sensitivity + specificity) / 2,
        "brier": float(sums.squared_error.sum()) / (positives + negatives),
    }
    if "calibration_slope" in names or "calibration_intercept" in names:
        fit = recalibrate(sums.target, sums.logit, sums.owner, np.ones((1, sums.positives.size)))
        metrics |= {"calibration_slope": float(fit.slope[0]), "calibration_intercept": float(fit.intercept[0])}
    return {name: metrics[name] for name in names}
