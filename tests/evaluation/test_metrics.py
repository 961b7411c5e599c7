"""Summaries: values against scikit-learn, honest gaps, clear errors, names for MLflow and DVC."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_auc_score

from osteo_models.core.errors import InputError
from osteo_models.evaluation import summarize


def clustered(patients=40, images=10, seed=2):
    """Errors come by patient: a patient's images share a level."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(patients) % 2, images)
    level = np.repeat(rng.normal(0, 1.5, patients), images)
    score = 1 / (1 + np.exp(-(2 * (2 * target - 1) + level + rng.normal(0, 0.3, target.size))))
    return target, score, np.repeat([f"P{number:02d}" for number in range(patients)], images)


def test_values_equal_scikit_learn():
    target, score, patients = clustered()
    found = summarize(target, score, patient_id=patients, threshold=0.4)
    decision = score >= 0.4
    assert found.accuracy.value == pytest.approx(accuracy_score(target, decision))
    assert found.sensitivity.value == pytest.approx(recall_score(target, decision))
    assert found.specificity.value == pytest.approx(recall_score(target, decision, pos_label=0))
    assert found.roc_auc.value == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    assert found.balanced_accuracy_as_auc.value == pytest.approx(roc_auc_score(target, decision), abs=1e-12)
    assert found.brier.value == pytest.approx(brier_score_loss(target, score))
    assert (found.n, found.n_patients, found.n_positive, found.n_negative) == (400, 40, 200, 200)
    for estimate in found.estimates().values():
        assert estimate.ci_low < estimate.value < estimate.ci_high
        assert estimate.interval in ("effective patients", "jackknife")


def test_slices_of_one_patient_are_not_independent():
    target, score, patients = clustered()
    by_patient, by_image = summarize(target, score, patient_id=patients), summarize(target, score)
    assert by_image.n_patients is None
    assert by_image.accuracy.value == by_patient.accuracy.value

    def width(estimate):
        return estimate.ci_high - estimate.ci_low

    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        assert width(by_patient.estimates()[name]) > 1.8 * width(by_image.estimates()[name])


def test_the_interval_has_the_spread_of_new_cohorts():
    # the SD of the accuracy over 300 fresh cohorts against the width that one cohort claims
    fresh = [np.mean((s >= 0.5) == t) for t, s, _ in (clustered(seed=number) for number in range(300))]
    widths = []
    for number in range(1000, 1100):
        target, score, patients = clustered(seed=number)
        estimate = summarize(target, score, patient_id=patients).accuracy
        widths.append(estimate.ci_high - estimate.ci_low)
    assert 1 < np.mean(widths) / (2 * 1.96 * np.std(fresh)) < 1.3


def test_ids_may_be_numbers():
    target, score, patients = clustered()
    numbers = [int(name[1:]) for name in patients]
    assert summarize(target, score, patient_id=numbers).n_patients == 40


def test_one_class_leaves_the_other_class_undefined():
    found = summarize([1] * 6, [0.9, 0.2, 0.8] * 2, patient_id=range(6))
    assert found.sensitivity == found.accuracy
    assert found.sensitivity.value == pytest.approx(2 / 3)
    for estimate in (found.specificity, found.balanced_accuracy, found.roc_auc, found.balanced_accuracy_as_auc):
        assert (estimate.value, estimate.ci_low, estimate.ci_high, estimate.interval) == (None, None, None, "undefined")
    assert "specificity" not in found.flatten()
    assert found.flatten()["sensitivity.ci_low"] == pytest.approx(0.222778, abs=1e-6)  # Clopper-Pearson, 4 of 6


def test_constant_scores_have_decisions_and_no_curve():
    found = summarize([0, 1, 0, 1], [0.7] * 4)
    assert found.roc_auc.value is None
    assert (found.sensitivity.value, found.specificity.value, found.balanced_accuracy.value) == (1.0, 0.0, 0.5)


def test_one_patient_has_values_and_no_interval():
    found = summarize([1, 1, 1, 1], [0.9, 0.2, 0.8, 0.7], patient_id=["a"] * 4)
    assert (found.accuracy.value, found.accuracy.ci_low, found.accuracy.interval) == (0.75, None, "too few patients")


CASE = st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.integers(0, 9))


@settings(max_examples=80, deadline=None)
@given(st.lists(CASE, min_size=1, max_size=30))
def test_any_table_has_figures_in_their_range_or_none(rows):
    target, score, patients = zip(*rows, strict=True)
    found = summarize(target, score, patient_id=patients)
    for name, one in found.estimates().items():
        assert (one.interval in ("undefined", "too few patients")) == (one.ci_low is None) == (one.ci_high is None)
        assert one.value is not None or one.ci_low is None
        for number in (one.value, one.ci_low, one.ci_high):
            assert number is None or math.isfinite(number)
            assert number is None or name.startswith("calibration") or 0 <= number <= 1
    both = 0 < sum(target) < len(target)
    assert (found.balanced_accuracy.value is None) == (not both)
    assert (found.roc_auc.value is None) == (not both or len(set(score)) == 1)
    if len(set(patients)) < 5:
        assert {one.ci_low for one in found.estimates().values()} == {None}
    assert all(math.isfinite(number) for number in found.flatten().values())


def test_flat_names_are_those_of_the_contract():
    target, score, patients = clustered()
    found = summarize(target, score, patient_id=patients)
    flat = found.flatten("stage_1.patient")
    assert flat["stage_1.patient.balanced_accuracy"] == found.balanced_accuracy.value
    assert flat["stage_1.patient.balanced_accuracy.ci_low"] == found.balanced_accuracy.ci_low
    assert flat["stage_1.patient.balanced_accuracy.ci_high"] == found.balanced_accuracy.ci_high
    assert (flat["stage_1.patient.n"], flat["stage_1.patient.n_patients"]) == (400.0, 40.0)
    assert set(found.flatten()) == {name.removeprefix("stage_1.patient.") for name in flat}
    assert "n_patients" not in summarize(target, score).flatten()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"score": [0.1, math.nan]}, "`score` has 1 value(s) that are NaN or infinite, the first in row 1"),
        ({"score": [0.1, 1.2]}, "`score` has 1 value(s) outside [0, 1], such as 1.2"),
        ({"score": [0.1]}, "lengths differ: `target` 2, `score` 1"),
        ({"target": [0, 3]}, "`target` has values other than 0 and 1: 3"),
        ({"target": [0, math.nan]}, "`target` has 1 value(s) that are NaN or infinite"),
        ({"target": [], "score": []}, "`target` is empty; `score` is empty"),
        ({"patient_id": ["a", None]}, "`patient_id` is empty in 1 row(s), the first is row 1"),
        ({"patient_id": ["a", math.nan]}, "`patient_id` is empty in 1 row(s)"),
        ({"patient_id": ["a"]}, "lengths differ: `target` 2, `score` 2, `patient_id` 1"),
        ({"threshold": math.nan}, "`threshold` is nan; allowed: a number in [0, 1]"),
    ],
)
def test_what_cannot_be_summarized_is_an_error(given, told):
    with pytest.raises(InputError) as caught:
        summarize(**({"target": [0, 1], "score": [0.2, 0.6]} | given))
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_faults_are_told_at_once():
    with pytest.raises(InputError) as caught:
        summarize([0, 7, 1], [0.1, 2.0], patient_id=["a", "", "c"])
    for told in ("`target` has values", "`score` has 1 value(s) outside", "`patient_id` is empty", "lengths differ"):
        assert told in str(caught.value)
