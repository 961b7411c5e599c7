"""Differences of metrics on the same patients: values, order, and the correlation that makes their intervals narrow."""

from __future__ import annotations

import numpy as np
import pytest

from osteo_models.evaluation import summarize
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import _find_influence, compare_scores
from osteo_models.evaluation.patient_level import MetricName, compute_metrics, sum_patients
from osteo_models.evaluation.scored_cases import Cases, check_cases

NAMES: tuple[MetricName, ...] = ("accuracy", "brier", "roc_auc", "sensitivity", "specificity", "balanced_accuracy")
PATIENTS, IMAGES = 40, 5


def make_cases(noise: float, *, seed: int = 1) -> Cases:
    """Scores that follow one latent value per image, with noise of their own."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(PATIENTS) % 2, IMAGES)
    shared = np.random.default_rng(0).normal(0, 0.25, PATIENTS).repeat(IMAGES)
    score = np.clip(0.5 + 0.3 * (target - 0.5) + shared + rng.normal(0, noise, target.size), 0, 1)
    return check_cases(target, score, [f"p{number:02d}" for number in np.arange(PATIENTS).repeat(IMAGES)])


@pytest.mark.parametrize("name", NAMES)
def test_both_values_are_those_of_each_side_and_turn_with_them(name: MetricName) -> None:
    first, second = make_cases(0.02), make_cases(0.3, seed=2)
    found, turned = (compare_scores(*pair, NAMES, Measure())[name] for pair in ((first, second), (second, first)))
    values = [
        summarize(side.target, side.score, patient_id=side.patient).estimates()[name].value for side in (first, second)
    ]
    assert (found.first, found.second) == pytest.approx(values)
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.ci_low < found.value < found.ci_high
    assert (turned.ci_low, turned.ci_high) == pytest.approx((-found.ci_high, -found.ci_low))


@pytest.mark.parametrize("name", NAMES)
def test_scores_that_agree_have_a_narrower_interval_than_scores_that_do_not(name: MetricName) -> None:
    first, alike = make_cases(0.02), make_cases(0.02, seed=2)
    order = np.arange(first.score.size).reshape(PATIENTS // 2, 2, IMAGES)
    moved = np.random.default_rng(3).permuted(order, axis=0).ravel()  # the same scores at other patients of a class
    unlike = check_cases(first.target, alike.score[moved], first.patient)
    widths = []
    for second in (alike, unlike):
        found = compare_scores(first, second, NAMES, Measure())[name]
        widths.append(found.ci_high - found.ci_low)
    assert widths[0] < 0.7 * widths[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_influence_of_a_patient_is_what_leaving_it_out_changes(name: MetricName) -> None:
    cases = make_cases(0.1)
    influence = _find_influence(sum_patients(cases, 0.5), name)
    whole = compute_metrics(sum_patients(cases, 0.5), NAMES)[name]
    rest = [cases.patient != patient for patient in np.unique(cases.patient)]
    left = [check_cases(cases.target[keep], cases.score[keep], cases.patient[keep]) for keep in rest]
    changes = [whole - compute_metrics(sum_patients(part, 0.5), NAMES)[name] for part in left]
    assert np.corrcoef(influence, changes)[0, 1] > 0.99
