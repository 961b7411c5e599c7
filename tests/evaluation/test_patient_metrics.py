"""Metrics from sums over patients, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from osteo_models.evaluation.patient_level import compute_metrics, sum_patients
from osteo_models.evaluation.scored_cases import check_cases


@pytest.fixture
def cases():
    rng = np.random.default_rng(1)
    patients = np.repeat([f"P{number}" for number in range(12)], 7)
    target = np.repeat([0] * 6 + [1] * 6, 7)
    target[3:6] = 1  # a patient with images of both classes
    return check_cases(target, np.round(np.clip(rng.normal(0.35 + 0.3 * target, 0.25), 0, 1), 1), patients)


def test_metrics_equal_scikit_learn(cases):
    found = compute_metrics(sum_patients(cases, 0.5))
    decision = cases.score >= 0.5
    assert found["roc_auc"] == pytest.approx(roc_auc_score(cases.target, cases.score), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(cases.target, decision))
    assert found["balanced_accuracy_as_auc"] == pytest.approx(roc_auc_score(cases.target, decision))
    assert found["accuracy"] == pytest.approx(np.mean(cases.target == decision))
    assert found["brier"] == pytest.approx(brier_score_loss(cases.target, cases.score))


def test_shares_of_the_other_class_add_up_from_both_sides(cases):
    sums = sum_patients(cases, 0.5)
    assert sums.above.sum() / sums.positives.sum() == pytest.approx(sums.below.sum() / sums.negatives.sum())
    assert sums.class_sizes == (7, 6)
    first = cases.target == 1
    mine = cases.score[first & (cases.patient == "P11")][:, None]
    others = cases.score[~first]
    expected = np.mean((mine > others) + (mine == others) / 2, axis=1).sum()
    assert sums.above[np.flatnonzero(np.unique(cases.patient) == "P11")[0]] == pytest.approx(expected)


def test_patients_given_from_outside_set_the_order(cases):
    order = [f"P{number}" for number in range(13)]  # P12 has no image here
    sums = sum_patients(cases, 0.5, order)
    assert sums.positives[12] == sums.negatives[12] == sums.above[12] == 0
    assert sums.positives[order.index("P11")] == 7
