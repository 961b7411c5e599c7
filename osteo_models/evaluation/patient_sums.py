"""What each patient contributes to the metrics, and the metrics from these sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from osteo_models.core.terms import decide
from osteo_models.evaluation.calibration import recalibrate, take_logit
from osteo_models.evaluation.roc import find_placements
from osteo_models.evaluation.scored_cases import BoolArray, Cases, FloatArray, IntArray

MetricName = Literal[
    "accuracy",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "roc_auc_hard",
    "brier",
    "calibration_slope",
    "calibration_intercept",
]
METRIC_NAMES: Final[tuple[MetricName, ...]] = get_args(MetricName)
# What depends on the threshold alone.
DECISION_METRICS: Final[tuple[MetricName, ...]] = ("accuracy", "sensitivity", "specificity", "balanced_accuracy")


@dataclass(frozen=True)
class PatientSums:
    """What each patient contributes to the metrics.

    Shapes:
        positives, negatives, true_positives, true_negatives, squared_error: (P,).
        above: (P,), over a patient's positive images the share of negative images that score lower, ties as a half.
        below: (P,), over a patient's negative images the share of positive images that score higher.
        constant: whether all scores are one value, so that there is no ROC curve.
        target, logit, owner: (N,): the images themselves, for what is no sum; owner is the patient's place.
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
        place = {name: row for row, name in enumerate(patients)}
        index, size = np.asarray([place[str(name)] for name in known], dtype=np.int64)[index], len(patients)

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
    found: dict[MetricName, float] = {
        "accuracy": float(sums.right.sum()) / (positives + negatives),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "roc_auc": float(sums.above.sum()) / positives if positives and negatives and not sums.constant else np.nan,
        "roc_auc_hard": (sensitivity + specificity) / 2,
        "brier": float(sums.squared_error.sum()) / (positives + negatives),
    }
    if "calibration_slope" in names or "calibration_intercept" in names:
        fit = recalibrate(sums.target, sums.logit, sums.owner, np.ones((1, sums.positives.size)))
        found |= {"calibration_slope": float(fit.slope[0]), "calibration_intercept": float(fit.intercept[0])}
    return {name: found[name] for name in names}
