"""Patient-clustered bootstrap without a loop over resamples.

Metrics are functions of sums over patients, so a resample is a vector of patient weights and 2,000 of them are one
matrix product; calibration alone is fitted, by Newton's method on all resamples together. The point estimate is the
same function at weights of one. Patients are drawn within their class: a case-control cohort fixes its class sizes by
design, and every resample holds both classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from osteo_models.evaluation.calibration import recalibrate, take_logit
from osteo_models.evaluation.cases import BoolArray, Cases, FloatArray, IntArray
from osteo_models.terms import decide

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
RESAMPLES: Final = 2000
COMPARISONS_AT_ONCE: Final = 4_000_000  # bounds the memory of one block of score comparisons


@dataclass(frozen=True)
class PatientSums:
    """What each patient contributes to the metrics.

    Shapes:
        positives, negatives, true_positives, true_negatives, squared_error: (P,).
        wins: (patients with positives, patients with negatives): positives scored above negatives, ties as a half.
        constant: whether all scores are one value, so that there is no ROC curve.
        target, logit, owner: (N,): the images themselves, for what is no sum; owner is the patient's place.
    """

    positives: FloatArray
    negatives: FloatArray
    true_positives: FloatArray
    true_negatives: FloatArray
    squared_error: FloatArray
    wins: FloatArray
    constant: bool
    target: IntArray
    logit: FloatArray
    owner: IntArray

    @property
    def stratum(self) -> IntArray:
        """0 controls, 1 osteoporosis, 2 both, 3 none: a patient is replaced by one of its own kind."""
        has_positives, has_negatives = self.positives > 0, self.negatives > 0
        return np.select([has_positives & has_negatives, has_positives, has_negatives], [2, 1, 0], 3).astype(np.int64)


def sum_patients(cases: Cases, threshold: float | FloatArray, patients: Sequence[str] | None = None) -> PatientSums:
    """Sum cases over patients, in the order of `patients` (all that occur, sorted, when not given).

    Args:
        threshold: One for all images, or one for each.
    """
    known, found = np.unique(cases.patient, return_inverse=True)
    order = known if patients is None else np.asarray(patients, dtype=np.str_)
    place = {str(name): row for row, name in enumerate(order)}
    index = np.asarray([place[str(name)] for name in known], dtype=np.int64)[found]

    def total(values: FloatArray | BoolArray) -> FloatArray:
        return np.bincount(index, weights=values.astype(np.float64), minlength=order.size).astype(np.float64)

    positive = cases.target == 1
    decision = decide(cases.score, threshold)
    return PatientSums(
        positives=total(positive),
        negatives=total(~positive),
        true_positives=total(positive & decision),
        true_negatives=total(~positive & ~decision),
        squared_error=total((cases.score - cases.target) ** 2),
        wins=_count_wins(cases.score, positive, index),
        constant=float(np.ptp(cases.score)) == 0,
        target=cases.target,
        logit=take_logit(cases.score),
        owner=index,
    )


def _count_wins(score: FloatArray, positive: BoolArray, index: IntArray) -> FloatArray:
    rows, columns = np.unique(index[positive]), np.unique(index[~positive])
    wins = np.zeros((rows.size, columns.size))
    if not wins.size:
        return wins
    order = np.argsort(index[~positive], kind="stable")
    negatives = score[~positive][order]
    starts = np.searchsorted(index[~positive][order], columns)
    positives, owners = score[positive], np.searchsorted(rows, index[positive])
    step = max(1, COMPARISONS_AT_ONCE // negatives.size)
    for start in range(0, positives.size, step):
        block = positives[start : start + step, None]
        twice = (block > negatives).view(np.int8) + (block >= negatives).view(np.int8)  # 2 win, 1 tie, 0 loss
        np.add.at(wins, owners[start : start + step], np.add.reduceat(twice, starts, axis=1, dtype=np.int64) / 2)
    return wins


def draw_weights(stratum: IntArray, resamples: int, seed: int) -> FloatArray:
    """How often each patient is drawn in each resample: (resamples, P), each stratum keeping its size."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, stratum.size))
    for kind in np.unique(stratum):
        members = np.flatnonzero(stratum == kind)
        drawn = rng.integers(0, members.size, size=(resamples, members.size))
        cells = drawn + members.size * np.arange(resamples)[:, None]
        counts = np.bincount(cells.ravel(), minlength=resamples * members.size)
        weights[:, members] = counts.reshape(resamples, members.size)
    return weights


def compute_metrics(
    sums: PatientSums, weights: FloatArray, names: Sequence[MetricName] = METRIC_NAMES
) -> dict[MetricName, FloatArray]:
    """Metrics at each row of patient weights; NaN where a class is missing, or there is no curve or fit.

    Shapes:
        weights: (B, P). Returns: (B,) per metric.

    Source:
        Equations 3-5 of the paper. The area from decisions equals the balanced accuracy; the paper printed it as AUC.
    """
    positives, negatives = weights @ sums.positives, weights @ sums.negatives
    hits, rejections = weights @ sums.true_positives, weights @ sums.true_negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = hits / positives, rejections / negatives
        found: dict[MetricName, FloatArray] = {
            "accuracy": (hits + rejections) / (positives + negatives),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "roc_auc_hard": (sensitivity + specificity) / 2,
            "brier": (weights @ sums.squared_error) / (positives + negatives),
        }
        if "roc_auc" in names:
            won = ((weights[:, sums.positives > 0] @ sums.wins) * weights[:, sums.negatives > 0]).sum(axis=1)
            found["roc_auc"] = np.full_like(won, np.nan) if sums.constant else won / (positives * negatives)
    if "calibration_slope" in names or "calibration_intercept" in names:
        fit = recalibrate(sums.target, sums.logit, sums.owner, weights)
        found |= {"calibration_slope": fit.slope, "calibration_intercept": fit.intercept}
    return {name: found[name] for name in names}
