import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_models.core.errors import SplitError
from osteo_models.search.development import deal_patient_folds


def make_patients(sizes):
    patient = np.repeat(np.arange(len(sizes)), sizes)
    return patient % 2, patient  # classes take turns


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=10, max_size=30), st.integers(2, 5), st.integers(0, 99))
def test_a_patient_stands_in_one_fold_and_each_fold_holds_both_classes(sizes, folds, seed):
    target, patient = make_patients(sizes)
    dealt = deal_patient_folds(target, patient, folds, seed)
    assert set(dealt) == set(range(folds))
    assert all(len(set(dealt[patient == one])) == 1 for one in set(patient))


def test_the_seed_decides():
    target, patient = make_patients([3] * 24)
    first, again, other = (deal_patient_folds(target, patient, 3, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert [np.bincount(target[first == fold], minlength=2).tolist() for fold in range(3)] == [[12, 12]] * 3


def test_too_few_patients_are_refused():
    target, patient = make_patients([5] * 5)
    with pytest.raises(SplitError) as caught:
        deal_patient_folds(target, patient, 3, 0)
    assert str(caught.value) == (
        "patient folds: 2 osteoporosis patients for 3 folds; lower the number of folds in params.yaml"
    )
