"""One trial, of one fold or of several, stopped and continued in this process."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_models.evaluation import score_patients
from osteo_models.training import trial as module
from osteo_models.training.epoch_metrics import balance_patients
from osteo_models.training.fold import Arrays
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.pretrained_plan import PretrainedWeights
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import fold_folder, read_result
from osteo_models.training.trial import Trial, TrialConfig, TrialSettings, make_config
from tests.training.small_fits import train_fold

SPEC = {"filters": [4, 4], "kernels": [3, 3], "strides": [1, 1], "pools": [4, 4], "pooling": "average", "dense": [4]}


@pytest.fixture
def job(small_params, tables):
    jobs = plan_jobs(small_params, tables, Recipe(epochs=2, precision="float32"))
    return next(job for job in jobs if (job.stage, job.name) == ("stage-5", "traditional_cnn-mri-patient"))


@pytest.fixture
def arrays(tables) -> Arrays:
    return as_arrays(tables)


@pytest.fixture
def make_settings(job, tables, tmp_path):
    """The settings of a job's single fold, in a folder of this name."""
    rows = {0: select_rows(job, 0, tables)}
    return lambda name="a", **changes: TrialSettings(rows, tmp_path / name, cpus=1, gpus=0, **changes)


def assert_equal(*results):
    first, second = results
    assert first.scores.tolist() == second.scores.tolist()
    assert first.weights.read_bytes() == second.weights.read_bytes()


def test_a_killed_trial_continues_from_its_checkpoint(make_settings, job, arrays):
    straight = train_fold(make_settings("a"), job, arrays)
    config = make_config(job, 0)
    assert not Trial(make_settings("b"), config, arrays).run_epoch().finished  # and then its process dies
    resumed = Trial(make_settings("b"), config, arrays)
    assert resumed.epoch == 1
    assert resumed.run_epoch().finished
    result = read_result(fold_folder(make_settings("b").folder, job.key, 0))
    assert_equal(straight, result)
    assert [epoch["epoch"] for epoch in result.history] == [1, 2]


def test_a_finished_trial_leaves_its_result_and_no_checkpoint(make_settings, job, arrays):
    trial, folder = Trial(make_settings(), make_config(job, 0), arrays), fold_folder(make_settings().folder, job.key, 0)
    trial.run_epoch()
    assert list(folder.glob("epoch-*"))
    trial.run_epoch()
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "result.json", "scores.npy"]


def test_a_trial_whose_worker_died_after_its_result_is_finished(make_settings, job, arrays, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_checkpoints", lambda _: None)  # killed before that
        train_fold(make_settings(), job, arrays)
    folder = fold_folder(make_settings().folder, job.key, 0)
    assert list(folder.glob("epoch-*"))
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith("epoch-")}
    again = Trial(make_settings(), make_config(job, 0), arrays)  # Tune did not receive the last report
    assert again.epoch == 2 and again.run_epoch().finished and again.epoch == 2
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written

    (folder / "scores.npy").write_bytes(b"damaged")
    assert Trial(make_settings(), make_config(job, 0), arrays).epoch == 0


def test_a_head_continues_from_its_checkpoint_bit_for_bit(make_settings, job, arrays, tables):
    values = np.random.default_rng(3).normal(size=(len(arrays.images), 9)).astype(np.float32)
    values[:, 4] += tables.splits["target"]  # one of nine features is informative
    features = replace(arrays, images=values)
    weights = PretrainedWeights("resnet18.a1_in1k", "random", "frozen", features="1")
    job = replace(job, pretrained=weights, recipe=Recipe(epochs=3, precision="bfloat16"))
    straight = train_fold(make_settings("a", checkpoint_seconds=1000), job, features)
    killed = Trial(make_settings("b"), make_config(job, 0), features)
    killed.run_epoch()
    killed.run_epoch()
    resumed = Trial(make_settings("b"), make_config(job, 0), features)
    assert resumed.epoch == 2 and resumed.run_epoch().finished
    assert_equal(straight, read_result(fold_folder(make_settings("b").folder, job.key, 0)))
    assert straight.precision == "bfloat16"  # of the features; a head computes in float32


def test_short_epochs_are_not_all_checkpointed(make_settings, job, arrays):
    Trial(make_settings(checkpoint_seconds=1000), make_config(job, 0), arrays).run_epoch()
    assert list(fold_folder(make_settings().folder, job.key, 0).iterdir()) == []
    assert Trial(make_settings(), make_config(job, 0), arrays).epoch == 0


@pytest.fixture
def candidate(job, tables, tmp_path):
    """A trial of three epochs on two folds that share their patients' classes, as a search runs it."""
    folds = dict(enumerate([select_rows(replace(job, stage="stage-1", validation="folds"), k, tables) for k in (0, 1)]))
    _, patient = np.unique(tables.splits["patient_id"].to_numpy(str), return_inverse=True)
    recipe = Recipe(epochs=3, batch_size=4, learning_rate=1e-2, precision="float32")
    settings = TrialSettings(folds, tmp_path, 1, 0, patient=patient)
    return settings, TrialConfig("study/candidate-4", "traditional_cnn", SPEC, recipe, {0: 1, 1: 2}, "cpu")


def run_epochs(trial, count):
    return [(report.epoch, report.balanced_accuracy) for report in (trial.run_epoch() for _ in range(count))]


def test_an_epoch_of_several_folds_reports_the_accuracy_of_patients(candidate, arrays):
    trial = Trial(*candidate, arrays)
    reports = [trial.run_epoch() for _ in range(3)]
    assert [(report.epoch, report.finished) for report in reports] == [(1, False), (2, False), (3, True)]
    assert reports[0].seconds == pytest.approx(2 * reports[0].seconds_per_epoch)
    assert reports[-1].balanced_accuracy > 0.6  # the classes differ in brightness


def test_killed_between_epochs_or_between_two_folds_it_is_the_same_trial(candidate, arrays):
    settings, config = candidate
    other = replace(config, key="study/candidate-5")
    whole = run_epochs(Trial(settings, config, arrays), 3)
    first = Trial(settings, other, arrays)
    run_epochs(first, 1)
    first._folds[0].advance_to(2)
    first._folds[0].save()  # and then its process dies
    assert Trial(settings, other, arrays).epoch == 1
    assert run_epochs(Trial(settings, other, arrays), 2) == whole[1:]
    assert run_epochs(Trial(settings, other, arrays), 1) == whole[2:]  # its driver did not receive the last report


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, width=32)), min_size=2, max_size=40))
def test_patients_are_balanced_as_in_the_evaluation(rows):
    patient = np.array([0, 1, *(row[0] for row in rows)])
    score = np.array([0.25, 0.75, *(row[1] for row in rows)], np.float32)
    target = patient % 2
    patients = score_patients(target, score, [str(number) for number in patient])
    shares = [np.mean([(one.score >= 0.5) == label for one in patients if one.target == label]) for label in (0, 1)]
    assert balance_patients(target, score, patient) == pytest.approx(np.mean(shares))
