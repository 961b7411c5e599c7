import numpy as np
import pytest

from osteo_models.core.errors import InputError
from osteo_models.evaluation import summarize
from osteo_models.evaluation.metrics import summarize_folds


def make(patients=60, seed=0):
    rng = np.random.default_rng(seed)
    target = np.arange(patients) % 2
    score = np.clip(0.5 + 0.25 * (2 * target - 1) + rng.normal(0, 0.3, patients), 0, 1)
    return target, score, rng.permutation(patients) % 3


def test_the_value_is_the_mean_of_the_folds_own_values():
    target, score, fold = make()
    found = summarize_folds(target, score, fold)
    each = [summarize(target[fold == k], score[fold == k]).balanced_accuracy.value for k in range(3)]
    assert found.value == pytest.approx(np.mean(each))
    assert found.interval == "effective patients" and found.ci_low < found.value < found.ci_high
    # The spread is that of all patients, not of a third of them.
    whole = summarize(target, score).balanced_accuracy
    assert found.ci_high - found.ci_low == pytest.approx(whole.ci_high - whole.ci_low, rel=0.25)


def test_without_an_error_the_interval_counts_patients():
    target, _, fold = make()
    found = summarize_folds(target, target.astype(float), fold)
    whole = summarize(target, target.astype(float)).balanced_accuracy
    assert (found.value, found.ci_high, found.interval) == (1.0, 1.0, "effective patients")
    assert found.ci_low == pytest.approx(whole.ci_low, abs=0.005)


def test_few_patients_of_a_class_have_no_interval():
    target, score, _ = make()
    few = np.append(np.flatnonzero(target == 1), np.flatnonzero(target == 0)[:4])
    found = summarize_folds(target[few], score[few], np.arange(few.size) % 2)
    assert found.value is not None and (found.ci_low, found.interval) == (None, "too few patients")


def test_a_fold_without_a_class_has_no_value():
    target, score, _ = make()
    found = summarize_folds(target, score, target)
    assert (found.value, found.interval) == (None, "undefined")


def test_columns_are_checked():
    with pytest.raises(InputError, match="outside"):
        summarize_folds([0, 1], [0.5, 1.5], [0, 0])
