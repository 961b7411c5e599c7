"""A candidate's folds side by side; killed and gone on with, it is the same candidate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_models.evaluation import score_patients
from osteo_models.search.candidate import Candidate, Course, balance_patients, candidate_folder, warm_up
from osteo_models.search.development import select_development
from osteo_models.training.checkpoint import save_checkpoint
from osteo_models.training.recipe import Recipe

SPEC = {"filters": [4, 4], "kernels": [3, 3], "strides": [1, 1], "pools": [4, 4], "pooling": "average", "dense": [4]}


@pytest.fixture
def development(tables):
    return select_development(tables.splits, tables.images, "mri")


@pytest.fixture
def course(development, tmp_path):
    recipe = Recipe(epochs=3, batch_size=4, precision="float32")
    return Course(recipe, development.deal(2, 1), development.patient, [1, 2], tmp_path, 1, 0, unsaved_seconds=0)


def run(course, development, epochs, **changes):
    candidate = Candidate(course, development.arrays, 4, SPEC, changes.get("learning_rate"))
    return [candidate.advance() for _ in range(epochs)]


def values(steps):
    return [(step.epoch, step.balanced_accuracy) for step in steps]


def test_an_epoch_is_one_of_each_fold(course, development):
    steps = run(course, development, 3, learning_rate=1e-2)
    assert [step.epoch for step in steps] == [1, 2, 3]
    assert all(0 < step.seconds_per_epoch <= step.seconds for step in steps[:1])
    assert steps[0].seconds == pytest.approx(2 * steps[0].seconds_per_epoch)
    assert steps[-1].balanced_accuracy > 0.6  # the images are told apart by their brightness


def test_a_killed_candidate_goes_on_where_it_was(course, development):
    whole = run(course, development, 3, learning_rate=1e-2)
    for path in course.folder.rglob("*.safetensors"):
        path.unlink()
    run(course, development, 2, learning_rate=1e-2)  # the second epoch keeps the first, and is lost itself
    assert len(list(candidate_folder(course.folder, 4).glob("fold-*/epoch-0001.safetensors"))) == 2
    assert values(run(course, development, 2, learning_rate=1e-2)) == values(whole[1:])


def test_killed_between_two_folds_only_the_later_one_is_behind(course, development):
    whole = run(course, development, 2)
    for path in course.folder.rglob("*.safetensors"):
        path.unlink()
    candidate = Candidate(course, development.arrays, 4, SPEC, None)
    fit = candidate._fits[0]
    fit.run_epoch()
    save_checkpoint(course.folder / "candidate-4" / "fold-0", fit)
    resumed = Candidate(course, development.arrays, 4, SPEC, None)
    assert values([resumed.advance(), resumed.advance()]) == values(whole)


def test_short_epochs_are_not_checkpointed_each(course, development):
    run(Course(**{**vars(course), "unsaved_seconds": 1e9}), development, 3)
    assert not list(course.folder.rglob("*.safetensors"))


def test_warming_up_leaves_nothing(course, development):
    warm_up(course, development.arrays)
    assert list(course.folder.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, width=32)), min_size=2, max_size=40))
def test_patients_are_balanced_as_in_the_evaluation(rows):
    patient = np.array([0, 1, *(row[0] for row in rows)])
    score = np.array([0.25, 0.75, *(row[1] for row in rows)], np.float32)
    target = patient % 2
    found = score_patients(target, score, [str(one) for one in patient])
    shares = [np.mean([(one.score >= 0.5) == label for one in found if one.target == label]) for label in (0, 1)]
    assert balance_patients(target, score, patient) == pytest.approx(np.mean(shares))
