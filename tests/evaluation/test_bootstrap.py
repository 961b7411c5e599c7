"""The bootstrap's matrix form against plain resampling of the cases themselves."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from osteo_models.evaluation import bootstrap
from osteo_models.evaluation.bootstrap import compute_metrics, draw_weights, sum_patients
from osteo_models.evaluation.cases import check_cases


@pytest.fixture
def cases():
    rng = np.random.default_rng(1)
    patients = np.repeat([f"P{number}" for number in range(12)], 7)
    target = np.repeat([0] * 6 + [1] * 6, 7)
    target[3:6] = 1  # a patient with images of both classes
    return check_cases(target, np.round(np.clip(rng.normal(0.35 + 0.3 * target, 0.25), 0, 1), 1), patients)


def test_weights_equal_repeating_the_cases(cases):
    sums = sum_patients(cases, 0.5)
    weights = draw_weights(sums.stratum, 20, seed=3)
    found = compute_metrics(sums, weights)
    names, index = np.unique(cases.patient, return_inverse=True)
    for row, weight in enumerate(weights.astype(int)):
        assert weight.sum() == names.size
        repeat = np.repeat(np.arange(cases.target.size), weight[index])
        target, score = cases.target[repeat], cases.score[repeat]
        assert found["roc_auc"][row] == pytest.approx(roc_auc_score(target, score), abs=1e-12)
        assert found["balanced_accuracy"][row] == pytest.approx(balanced_accuracy_score(target, score >= 0.5))
        assert found["roc_auc_hard"][row] == pytest.approx(roc_auc_score(target, score >= 0.5))
        assert found["accuracy"][row] == pytest.approx(np.mean(target == (score >= 0.5)))
        assert found["brier"][row] == pytest.approx(brier_score_loss(target, score))


def test_small_blocks_count_the_same_wins(cases, monkeypatch):
    whole = sum_patients(cases, 0.5).wins
    monkeypatch.setattr(bootstrap, "COMPARISONS_AT_ONCE", 1)
    assert np.array_equal(sum_patients(cases, 0.5).wins, whole)


def test_each_stratum_keeps_its_size_and_the_seed_decides():
    stratum = np.asarray([0, 0, 0, 1, 1, 2, 0])
    weights = draw_weights(stratum, 500, seed=9)
    for kind in (0, 1, 2):
        assert set(weights[:, stratum == kind].sum(axis=1)) == {float((stratum == kind).sum())}
    assert np.array_equal(weights, draw_weights(stratum, 500, seed=9))
    assert not np.array_equal(weights, draw_weights(stratum, 500, seed=10))
    assert weights[:, :3].mean() == pytest.approx(1, abs=0.1)


def test_patients_given_from_outside_set_the_order(cases):
    order = [f"P{number}" for number in range(13)]  # P12 has no image here
    sums = sum_patients(cases, 0.5, order)
    assert sums.positives[12] == sums.negatives[12] == 0
    assert sums.positives[order.index("P11")] == 7
    assert sums.stratum[[0, 1, 11, 12]].tolist() == [2, 0, 1, 3]
