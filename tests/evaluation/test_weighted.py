"""Weighted curves against scikit-learn with sample weights."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from osteo_models.evaluation.bands import band_rows, calibration_rows
from osteo_models.evaluation.bootstrap import draw_weights, sum_patients
from osteo_models.evaluation.cases import Cases, check_cases
from osteo_models.evaluation.predictions import read_predictions
from osteo_models.evaluation.weighted import GRID, weigh_areas, weigh_curves


@pytest.fixture
def scored():
    rng = np.random.default_rng(5)
    target = rng.integers(0, 2, 120)
    return (
        target,
        np.round(rng.normal(0.4 + 0.2 * target, 0.2).clip(0, 1), 1),
        rng.integers(0, 4, (6, 120)).astype(float),
    )


def test_areas_equal_scikit_learn(scored):
    target, score, weights = scored
    expected = [roc_auc_score(target, score, sample_weight=row) for row in weights]
    assert weigh_areas(target, score, weights) == pytest.approx(expected, abs=1e-12)


def test_no_curve_has_no_area(scored):
    target, score, weights = scored
    assert np.isnan(weigh_areas(target, np.full(120, 0.5), weights)).all()
    assert np.isnan(weigh_areas(target, score, weights * target)).all()


def test_curves_equal_scikit_learn(scored):
    target, score, weights = scored
    cases = check_cases(target, score, range(120))
    found = weigh_curves(cases, np.arange(120), weights)
    for row, weight in zip(found, weights, strict=True):
        alarms, hits, _ = roc_curve(target, score, sample_weight=weight, drop_intermediate=False)
        assert row == pytest.approx(np.interp(GRID, alarms, hits), abs=1e-12)


@pytest.fixture
def tested(tmp_path, job, images):
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    (one,) = read_predictions(tmp_path)
    return one, sum_patients(Cases(one.target, one.score, one.patient_id, has_patients=True), 0.5)


def test_the_band_lies_around_the_curve(tested):
    one, sums = tested
    rows = list(band_rows(one, sums, seed=1, resamples=200))
    assert [row["false_positive_rate"] for row in rows] == GRID.round(2).tolist()
    assert all(row["low"] <= row["true_positive_rate"] <= row["high"] for row in rows)
    assert rows[5]["high"] - rows[5]["low"] > 0.02
    assert rows[-1]["true_positive_rate"] == rows[-1]["low"] == 1.0
    assert {row["source"] for row in rows} == {one.source}


def test_one_class_has_no_band_and_its_bins_are_all_of_it(tested):
    one, _ = tested
    half = one.select(one.target == 1)
    sums = sum_patients(Cases(half.target, half.score, half.patient_id, has_patients=True), 0.5)
    assert list(band_rows(half, sums, seed=1, resamples=100)) == []
    bins = list(calibration_rows(half, sums, seed=1, resamples=100))
    assert {row["observed"] for row in bins} == {1.0}
    assert {row["low"] for row in bins} == {None}


@pytest.mark.parametrize(("ill", "well", "there"), [(2, 2, True), (1, 2, False), (2, 1, False)])
def test_a_band_needs_two_patients_of_each_class(tested, ill, well, there):
    one, _ = tested
    first = np.unique(one.patient_id, return_index=True)[1]  # an image of each patient
    rows = [*first[one.target[first] == 1][:ill], *first[one.target[first] == 0][:well]]
    few = one.select(np.isin(np.arange(one.target.size), rows))
    sums = sum_patients(Cases(few.target, few.score, few.patient_id, has_patients=True), 0.5)
    assert bool(list(band_rows(few, sums, seed=1, resamples=100))) is there


def test_the_band_is_the_percentiles_of_the_resampled_curves(tested):
    one, sums = tested
    rows = list(band_rows(one, sums, seed=1, resamples=200))
    curves = weigh_curves(one.cases, sums.owner, draw_weights(sums.stratum, 200, 1))
    expected = np.percentile(curves, [2.5, 97.5], axis=0)
    assert [[row["low"] for row in rows], [row["high"] for row in rows]] == expected.tolist()


def test_bins_are_numbered_and_counted(tested):
    one, sums = tested
    bins = list(calibration_rows(one, sums, seed=1, resamples=100))
    assert [row["bin"] for row in bins] == list(range(1, 11)) and sum(row["n"] for row in bins) == one.target.size
    assert all(row["low"] < row["observed"] < row["high"] and row["n_patients"] > 1 for row in bins[3:7])
    assert [row["mean_score"] for row in bins] == sorted(row["mean_score"] for row in bins)
