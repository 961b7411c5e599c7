"""DeLong's test against its definition: the kernel over all pairs of cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from osteo_models.core.errors import InputError
from osteo_models.evaluation import auc_interval, delong_test


def direct(target, *scores):
    """Areas and covariance from the definition, O(n * m)."""
    target = np.asarray(target)
    rows, columns = [], []
    for score in map(np.asarray, scores):
        positive, negative = score[target == 1][:, None], score[target == 0][None, :]
        kernel = (positive > negative) + 0.5 * (positive == negative)
        rows.append(kernel.mean(axis=1))
        columns.append(kernel.mean(axis=0))
    rows, columns = np.asarray(rows), np.asarray(columns)
    covariance = np.cov(rows) / rows.shape[1] + np.cov(columns) / columns.shape[1]
    return rows.mean(axis=1), np.atleast_2d(covariance)


def cohort(size, decimals, seed):
    rng = np.random.default_rng(seed)
    target = np.append([0, 0, 1, 1], rng.integers(0, 2, size - 4))
    common = rng.normal(size=size) + target
    return target, np.round(common + rng.normal(size=size), decimals), np.round(common, decimals)


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 120), st.sampled_from([0, 1, 12]), st.integers(0, 10_000))
def test_equals_the_definition_with_and_without_ties(size, decimals, seed):
    target, a, b = cohort(size, decimals, seed)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return
    (auc_a, auc_b), covariance = direct(target, a, b)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = delong_test(target, a, b)
    assert found.auc_a == pytest.approx(auc_a, abs=1e-12)
    assert found.auc_b == pytest.approx(auc_b, abs=1e-12)
    if variance < 1e-12:
        return
    z = (auc_a - auc_b) / math.sqrt(variance)
    half = norm.ppf(0.975) * math.sqrt(variance)
    assert found.z == pytest.approx(z, abs=1e-9)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(z)), abs=1e-9)
    assert found.ci_low == pytest.approx(auc_a - auc_b - half, abs=1e-9)
    assert found.ci_high == pytest.approx(auc_a - auc_b + half, abs=1e-9)


def test_interval_of_one_area_equals_the_definition():
    target, a, _ = cohort(300, 1, 3)
    (auc,), covariance = direct(target, a)
    found = auc_interval(target, a)
    assert found.auc == pytest.approx(auc, abs=1e-12)
    assert found.ci_low == pytest.approx(auc - norm.ppf(0.975) * math.sqrt(covariance[0, 0]), abs=1e-9)
    assert found.ci_high == pytest.approx(auc + norm.ppf(0.975) * math.sqrt(covariance[0, 0]), abs=1e-9)


def test_swapping_the_scores_turns_the_sign():
    target, a, b = cohort(80, 2, 4)
    one, other = delong_test(target, a, b), delong_test(target, b, a)
    assert one.z == -other.z != 0
    assert (one.p_value, one.ci_low) == (other.p_value, -other.ci_high)


def test_identical_curves_give_z_zero_and_p_one():
    target, a, _ = cohort(60, 1, 5)
    for other in (a, 3 * a + 1, np.exp(a)):  # the order alone counts
        found = delong_test(target, a, other)
        assert (found.z, found.p_value, found.ci_low, found.ci_high) == (0.0, 1.0, 0.0, 0.0)


def test_two_perfect_curves_are_identical():
    found = delong_test([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.0, 0.1, 0.5, 0.6])
    assert (found.auc_a, found.auc_b, found.z, found.p_value) == (1.0, 1.0, 0.0, 1.0)


def test_a_difference_without_variance_is_undefined():
    found = delong_test([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1])
    assert (found.auc_a, found.auc_b) == (1.0, 0.0)
    assert (found.z, found.p_value, found.ci_low, found.ci_high) == (None, None, None, None)


def test_a_perfect_curve_has_an_area_and_no_interval():
    found = auc_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert (found.auc, found.ci_low, found.ci_high) == (1.0, None, None)


@pytest.mark.parametrize(
    ("target", "a", "b", "told"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, math.nan, 0.4], [1, 2, 3, 4], "`score_a` has 1 value(s) that are NaN or infinite"),
        ([0, 0, 1, 2], [1, 2, 3, 4], [1, 2, 3, 4], "`target` has values other than 0 and 1: 2"),
        ([0, 0, 1, 1], [1, 2, 3], [1, 2, 3, 4], "lengths differ: `target` 4, `score_a` 3, `score_b` 4"),
        ([0, 0, 0, 1], [1, 2, 3, 4], [1, 2, 3, 4], "class 1 has 1 case(s): no variance without two"),
        ([1, 1, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], "class 0 has 0 case(s)"),
        ([0, 0, 1, 1], [1, 2, 3, 4], [5, 5, 5, 5], "`score_b` is 5 everywhere: its area under the curve is undefined"),
        ([], [], [], "`target` is empty"),
        ([0, 1], ["x", "y"], [1, 2], "`score_a` holds values that are not numbers"),
        ([[0, 1]], [1, 2], [1, 2], "`target` has 2 dimensions, not 1"),
    ],
)
def test_input_that_has_no_answer_is_an_error(target, a, b, told):
    with pytest.raises(InputError) as caught:
        delong_test(target, a, b)
    assert told in str(caught.value)
    assert "two cases of each class" in str(caught.value)
