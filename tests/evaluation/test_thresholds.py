"""The threshold of a fold comes from other folds and other patients."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from osteo_models.core.errors import InputError
from osteo_models.evaluation.predictions import read_predictions
from osteo_models.evaluation.roc import choose_threshold, choose_thresholds
from tests.conftest import STAGES


def test_the_largest_youden_index_wins_and_of_equals_the_nearest_to_half():
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.3, 0.35, 0.9]) == 0.35
    # at 0.8 and at 0.6 the index is 0.5
    assert choose_threshold([0, 1, 0, 1], [0.1, 0.6, 0.7, 0.8]) == 0.6


def test_equals_a_search_over_all_scores():
    rng = np.random.default_rng(2)
    target = rng.integers(0, 2, 300)
    score = np.round(rng.normal(0.4 + 0.2 * target, 0.2).clip(0, 1), 2)
    found = choose_threshold(target, score)
    best = max(balanced_accuracy_score(target, score >= cut) for cut in np.unique(score))
    assert balanced_accuracy_score(target, score >= found) == pytest.approx(best)


def test_no_threshold_is_better_than_chance():
    assert choose_threshold([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]) is None
    assert choose_threshold([0, 1], [0.5, 0.5]) is None


def test_one_class_is_an_error():
    with pytest.raises(InputError, match="one class is missing"):
        choose_threshold([1, 1], [0.1, 0.2])


@pytest.fixture
def jobs(tmp_path, job, images):
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    few = images.groupby("patient_id").head(3)  # else each patient has slices in every fold
    job(tmp_path, "stage-1", "unimodal", "mri", "image", few, 2.0)
    tested = images[images["patient_id"].isin(images["patient_id"].unique()[::9])]
    job(tmp_path, "stage-6", "unimodal", "mri", "patient", tested, 2.0)
    job(tmp_path, "stage-5", "unimodal", "ct", "patient", images, 2.0)
    return {one.name: one for one in read_predictions(tmp_path)}


@pytest.mark.parametrize("protocol", ["patient", "image"])
def test_a_fold_takes_it_from_other_patients_of_other_folds(jobs, protocol):
    one = jobs[f"stage-1/unimodal-mri-{protocol}"]
    found = choose_thresholds(one, list(jobs.values()), STAGES)
    assert (found.note, found.source) == ("", one.source)
    for fold in range(5):
        tested = one.fold == fold
        others = ~np.isin(one.patient_id, one.patient_id[tested]) & ~tested
        assert others.sum() > 0
        assert set(found.threshold[tested]) == {choose_threshold(one.target[others], one.score[others])}


def test_scores_of_the_tested_fold_decide_nothing(jobs):
    one = jobs["stage-1/unimodal-mri-patient"]
    tested = one.fold == 2
    before = choose_thresholds(one, [one], STAGES).threshold[tested]
    turned = replace(one, score=np.where(tested, 1 - one.score, one.score))
    assert np.array_equal(choose_thresholds(turned, [turned], STAGES).threshold[tested], before)


def test_the_test_sets_take_it_from_cross_validation_without_the_tested(jobs):
    one, folds = jobs["stage-6/unimodal-mri-patient"], jobs["stage-1/unimodal-mri-patient"]
    found = choose_thresholds(one, list(jobs.values()), STAGES)
    others = ~np.isin(folds.patient_id, one.patient_id)
    assert others.sum() < folds.target.size
    assert set(found.threshold) == {choose_threshold(folds.target[others], folds.score[others])}
    assert found.source == folds.source


def test_what_was_not_run_is_told(jobs):
    found = choose_thresholds(jobs["stage-5/unimodal-ct-patient"], list(jobs.values()), STAGES)
    assert (found.exists, found.source, found.note) == (False, "", "stage-2/unimodal-ct-patient was not run")
    assert np.isnan(found.threshold).all()


def test_a_fold_without_others_is_told(jobs):
    one = jobs["stage-1/unimodal-mri-patient"]
    alone = replace(one, fold=np.zeros_like(one.fold))
    assert choose_thresholds(alone, [alone], STAGES).note == "fold 0: no other patients' scores"
    half = one.select(one.target == 1)
    assert choose_thresholds(half, [half], STAGES).note == "fold 0: one class is missing: there is no ROC curve"
