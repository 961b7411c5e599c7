"""The patient level and the ROC curve."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from osteo_models.core.errors import InputError
from osteo_models.evaluation import find_extremes, proportion_interval, score_patients, trace_roc


def test_a_patient_scores_the_mean_of_its_images():
    found = score_patients([1, 0, 1, 0], [0.9, 0.2, 0.3, 0.4], ["b", "a", "b", "a"])
    assert [(one.patient_id, one.target, one.images, one.correct) for one in found] == [("a", 0, 2, 2), ("b", 1, 2, 1)]
    assert [one.score for one in found] == pytest.approx([0.3, 0.6])
    assert found[1].accuracy == 0.5


def test_a_score_at_the_threshold_is_osteoporosis():
    control, ill = score_patients([0, 1], [0.6, 0.6], ["a", "b"], threshold=0.6)
    assert (control.correct, ill.correct) == (0, 1)


def test_a_patient_with_both_targets_is_named():
    with pytest.raises(InputError, match=r"1 patient\(s\) with both targets: P7; allowed: one target per patient"):
        score_patients([0, 1, 0], [0.1, 0.2, 0.3], ["P7", "P7", "P8"])


def test_best_and_worst_patient_of_each_class():
    target = [1] * 10 + [1] * 4 + [0] * 3
    score = [0.9] * 7 + [0.1] * 3 + [0.9] * 4 + [0.2] * 3
    found = find_extremes(score_patients(target, score, ["a"] * 10 + ["b"] * 4 + ["c"] * 3))
    assert {(group, which): (one.patient_id, one.accuracy, one.images) for group, which, one in found} == {
        ("control", "minimum"): ("c", 1.0, 3),
        ("control", "maximum"): ("c", 1.0, 3),
        ("osteoporosis", "minimum"): ("a", 0.7, 10),
        ("osteoporosis", "maximum"): ("b", 1.0, 4),
    }
    assert proportion_interval(7, 10) == pytest.approx((0.416, 0.984), abs=5e-4)  # 70 % (41.6-98.4) in table 10


def test_of_equals_the_patient_with_most_images_comes_first_and_then_the_first_by_name():
    names = ["a"] * 2 + ["b"] * 4 + ["c"] * 4 + ["d"] * 2 + ["e"] * 4 + ["f"] * 4
    score = [0.9] * 10 + ([0.9] + [0.1]) + ([0.9] * 2 + [0.1] * 2) * 2
    (_, low, worst), (_, high, best) = find_extremes(score_patients([1] * 20, score, names))
    assert (low, worst.patient_id, worst.accuracy, worst.images, worst.correct) == ("minimum", "e", 0.5, 4, 2)
    assert (high, best.patient_id, best.accuracy, best.images, best.correct) == ("maximum", "b", 1.0, 4, 4)


def test_roc_points_equal_scikit_learn():
    rng = np.random.default_rng(3)
    target = rng.integers(0, 2, 200)
    score = np.round(np.clip(rng.normal(0.4 + 0.2 * target, 0.2), 0, 1), 2)
    curve = trace_roc(target, score)
    alarms, hits, _ = roc_curve(target, score, drop_intermediate=False)
    every = set(zip(alarms.round(9), hits.round(9), strict=True))
    ours = set(zip(curve.false_positive_rate.round(9), curve.true_positive_rate.round(9), strict=True))
    assert ours < every
    across, up = np.diff(curve.false_positive_rate), np.diff(curve.true_positive_rate)
    assert np.abs(across[:-1] * up[1:] - across[1:] * up[:-1]).min() > 1e-9  # corner points only
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    for alarm, hit, threshold in zip(curve.false_positive_rate, curve.true_positive_rate, curve.threshold, strict=True):
        decision = score >= threshold
        assert (np.mean(decision[target == 0]), np.mean(decision[target == 1])) == pytest.approx((alarm, hit))


def test_one_class_has_no_curve():
    with pytest.raises(InputError, match="one class is missing"):
        trace_roc([1, 1], [0.2, 0.3])


def test_a_class_without_patients_has_no_extremes():
    found = find_extremes(score_patients([1, 1], [0.9, 0.2], ["a", "b"]))
    assert [(group, which) for group, which, _ in found] == [("osteoporosis", "minimum"), ("osteoporosis", "maximum")]
