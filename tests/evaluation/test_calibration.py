"""Calibration against statsmodels' logistic regression, and its honest ends."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from osteo_models.evaluation import summarize
from osteo_models.evaluation.calibration import bin_scores, recalibrate, take_logit
from osteo_models.evaluation.scored_cases import check_cases


def cohort(patients=30, images=8, seed=1, skill=1.2):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), images)
    target = owner % 2
    level = rng.normal(0, 1, patients)[owner]
    score = 1 / (1 + np.exp(-(0.4 + skill * (2 * target - 1) + level + rng.normal(0, 0.7, owner.size))))
    return target, score, owner


def fit(target, score, weights=None):
    design = sm.add_constant(np.log(score / (1 - score)))
    model = sm.GLM(target, design, family=sm.families.Binomial(), freq_weights=weights)
    return model.fit(tol=1e-14).params


def test_point_and_weighted_fits_equal_statsmodels():
    target, score, owner = cohort()
    once = recalibrate(target, take_logit(score), owner, np.ones((1, 30)))
    assert (once.intercept[0], once.slope[0]) == pytest.approx(tuple(fit(target, score)), abs=1e-9)
    weights = np.random.default_rng(4).integers(0, 3, (40, 30)).astype(float)
    many = recalibrate(target, take_logit(score), owner, weights)
    for row in range(0, 40, 5):
        expected = fit(target, score, weights[row][owner])
        assert (many.intercept[row], many.slope[row]) == pytest.approx(tuple(expected), abs=1e-8)


def test_summary_carries_it_with_an_interval():
    target, score, owner = cohort()
    found = summarize(target, score, patient_id=owner)
    assert found.calibration_slope.value == pytest.approx(fit(target, score)[1], abs=1e-9)
    assert found.calibration_slope.ci_low < found.calibration_slope.value < found.calibration_slope.ci_high
    assert found.flatten()["calibration_intercept"] == pytest.approx(fit(target, score)[0], abs=1e-9)


def test_true_probabilities_have_slope_one_and_intercept_zero():
    rng = np.random.default_rng(3)
    score = rng.beta(1, 1, 40_000).clip(0.001, 0.999)
    target = (rng.random(score.size) < score).astype(int)
    found = recalibrate(target, take_logit(score), np.arange(score.size), np.ones((1, score.size)))
    assert found.slope[0] == pytest.approx(1, abs=0.03)
    assert found.intercept[0] == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize(
    ("target", "score"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),  # separated
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]),  # separated the wrong way round
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9]),  # separated but for a tie
        ([1, 1, 1], [0.2, 0.5, 0.9]),  # one class
        ([0, 1, 0, 1], [0.7] * 4),  # constant
    ],
)
def test_no_fit_is_undefined(target, score):
    found = summarize(target, score)
    for one in (found.calibration_slope, found.calibration_intercept):
        assert (one.value, one.ci_low, one.ci_high, one.interval) == (None, None, None, "undefined")
    assert not any("calibration" in name for name in found.flatten())


@pytest.mark.parametrize(
    ("logit", "target", "slope", "intercept"),
    [
        ([1.0, 2, 3, 4], [0, 0, 1, 1], np.inf, -np.inf),  # the boundary lies at 2.5
        ([-4.0, -3, -2, -1], [0, 0, 1, 1], np.inf, np.inf),
        ([1.0, 2, 3, 4], [1, 1, 0, 0], -np.inf, np.inf),
        ([-4.0, -3, -2, -1], [1, 1, 0, 0], -np.inf, -np.inf),
    ],
)
def test_separated_classes_have_an_infinite_fit_of_the_right_sign(logit, target, slope, intercept):
    found = recalibrate(np.asarray(target), np.asarray(logit), np.arange(4), np.ones((1, 4)))
    assert (found.slope[0], found.intercept[0]) == (slope, intercept)


def test_scores_of_exactly_zero_and_one_are_finite():
    target, score, owner = cohort()
    score[[0, 5]] = 0.0, 1.0
    found = recalibrate(target, take_logit(score), owner, np.ones((1, 30)))
    assert np.isfinite(found.slope[0])


def test_an_infinite_slope_without_one_patient_has_no_interval():
    # six patients a class; without the one patient that reaches across, the classes are separated
    owner = np.repeat(np.arange(12), 3)
    target = (owner >= 6).astype(int)
    score = np.where(target == 1, 0.8, 0.2) + 0.004 * np.arange(36)
    score[0] = 0.9
    found = summarize(target, score, patient_id=owner)
    assert found.calibration_slope.value is not None
    assert (found.calibration_slope.ci_low, found.calibration_slope.interval) == (None, "undefined")


def test_the_interval_is_the_jackknife_of_patients():
    target, score, owner = cohort(patients=20)
    found = summarize(target, score, patient_id=owner).calibration_slope
    without = np.asarray([fit(target[owner != one], score[owner != one])[1] for one in range(20)])
    variance = sum(0.9 * np.sum((part - part.mean()) ** 2) for part in (without[::2], without[1::2]))
    half = t.ppf(0.975, 9) * np.sqrt(variance)
    assert (found.ci_low, found.ci_high) == pytest.approx((found.value - half, found.value + half), abs=1e-7)
    assert found.interval == "jackknife"


def test_many_patients_are_left_out_in_groups():
    target, score, owner = cohort(patients=900, images=2)
    found = summarize(target, score, patient_id=owner).calibration_slope
    fewer = summarize(target[:800], score[:800], patient_id=owner[:800]).calibration_slope  # 200 of each class
    assert (found.ci_high - found.ci_low) / (fewer.ci_high - fewer.ci_low) == pytest.approx(2 / 3, rel=0.15)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10_000), st.sampled_from([1, 2, 12]))
def test_a_fit_is_where_the_score_function_is_zero_or_there_is_none(size, seed, decimals):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, size)
    score = np.round(rng.random(size), decimals).clip(0.01, 0.99)
    logit = take_logit(score)
    found = recalibrate(target, logit, np.arange(size), np.ones((1, size)))
    slope, intercept = found.slope[0], found.intercept[0]
    ones, zeros = logit[target == 1], logit[target == 0]
    fits = ones.size > 0 and zeros.size > 0 and ones.min() < zeros.max() and zeros.min() < ones.max()
    assert np.isfinite(slope) == np.isfinite(intercept) == fits
    if fits:
        residual = target - 1 / (1 + np.exp(-(intercept + slope * logit)))
        assert abs(residual.sum()) < 1e-6 * size
        assert abs(residual @ logit) < 1e-5 * size


def test_bins_hold_every_image_once():
    target, score, owner = cohort(patients=60)
    cases = check_cases(target, np.round(score, 2), owner.tolist())
    found = list(bin_scores(cases))
    assert sum(one.images for one in found) == target.size
    assert len(found) == 10
    assert [one.mean_score for one in found] == sorted(one.mean_score for one in found)
    assert sum(one.images * one.observed for one in found) == pytest.approx(target.sum())
    middle = found[5]
    assert middle.ci_low < middle.observed < middle.ci_high


def test_equal_scores_stay_in_one_bin():
    cases = check_cases([0, 1] * 20, [0.5] * 30 + [0.9] * 10, list(range(40)))
    found = list(bin_scores(cases))
    assert [(one.mean_score, one.images) for one in found] == [(0.5, 30), (pytest.approx(0.9), 10)]
    assert 0 < found[0].ci_low < 0.5 < found[0].ci_high < 1
