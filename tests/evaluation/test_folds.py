import numpy as np
import pytest

from osteo_models.errors import InputError
from osteo_models.evaluation import proportion_interval, summarize
from osteo_models.evaluation.folds import summarize_folds


def make(patients=60, seed=0):
    rng = np.random.default_rng(seed)
    target = np.arange(patients) % 2
    score = np.clip(0.5 + 0.25 * (2 * target - 1) + rng.normal(0, 0.3, patients), 0, 1)
    return target, score, rng.permutation(patients) % 3


def test_the_value_is_the_mean_of_the_folds_own_values():
    target, score, fold = make()
    found = summarize_folds(target, score, fold, resamples=200)
    each = [summarize(target[fold == k], score[fold == k], resamples=100).balanced_accuracy.value for k in range(3)]
    assert found.value == pytest.approx(np.mean(each))
    assert found.interval == "bootstrap" and found.ci_low < found.value < found.ci_high
    assert summarize_folds(target, score, fold, resamples=200) == found
    # The spread is that of all patients, not of a third of them.
    whole = summarize(target, score).balanced_accuracy
    assert found.ci_high - found.ci_low == pytest.approx(whole.ci_high - whole.ci_low, rel=0.25)


def test_without_an_error_the_interval_counts_patients():
    target, _, fold = make()
    found = summarize_folds(target, target.astype(float), fold, resamples=200)
    low, _ = proportion_interval(30, 30, "wilson")
    assert (found.value, found.ci_low, found.ci_high, found.interval) == (1.0, low, 1.0, "wilson_patients")


def test_a_fold_without_a_class_has_no_value():
    target, score, _ = make()
    found = summarize_folds(target, score, target, resamples=200)
    assert (found.value, found.interval) == (None, "undefined")


def test_columns_are_checked():
    with pytest.raises(InputError, match="outside"):
        summarize_folds([0, 1], [0.5, 1.5], [0, 0])
