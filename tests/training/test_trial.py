from dataclasses import replace

import numpy as np
import pytest

from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.pretrained_plan import Start
from osteo_models.training.recipe import Recipe
from osteo_models.training.results import fold_folder, read_result
from osteo_models.training.trial import Arrays, Plan, Trial


@pytest.fixture
def make_plan(small_params, tables):
    jobs = plan_jobs(small_params, tables, Recipe(epochs=2, precision="float32"))
    job = next(job for job in jobs if (job.stage, job.name) == ("stage-5", "traditional_cnn-mri-patient"))
    return lambda folder: Plan(job, {0: select_rows(job, 0, tables)}, folder, cpus=1, gpus=0)


def test_a_trial_that_was_killed_goes_on_where_it_was(make_plan, tables, tmp_path):
    arrays = as_arrays(tables)
    straight = Trial(make_plan(tmp_path / "a"), arrays, 0)
    assert [straight.advance(), straight.advance()] == [False, True]

    plan = make_plan(tmp_path / "b")
    assert not Trial(plan, arrays, 0).advance()  # and then its process dies
    resumed = Trial(plan, arrays, 0)
    assert resumed.epoch == 1
    assert resumed.advance()

    results = [read_result(fold_folder(tmp_path / name, plan.job.key, 0)) for name in ("a", "b")]
    assert results[0] is not None and results[1] is not None
    assert results[0].scores.tolist() == results[1].scores.tolist()
    assert results[0].weights.read_bytes() == results[1].weights.read_bytes()
    assert [epoch["epoch"] for epoch in results[1].history] == [1, 2]


def test_a_finished_trial_leaves_its_result_and_no_checkpoint(make_plan, tables, tmp_path):
    plan = make_plan(tmp_path)
    trial = Trial(plan, as_arrays(tables), 0)
    trial.advance()
    folder = fold_folder(tmp_path, plan.job.key, 0)
    assert list(folder.glob("epoch-*"))
    trial.advance()
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "result.json", "scores.npy"]


def test_a_trial_whose_worker_died_after_its_result_is_done_at_once(make_plan, tables, tmp_path, monkeypatch):
    plan = make_plan(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("osteo_models.training.trial.remove_checkpoints", lambda _: None)  # killed before that
        trial = Trial(plan, as_arrays(tables), 0)
        while not trial.advance():
            pass
    folder = fold_folder(tmp_path, plan.job.key, 0)
    assert list(folder.glob("epoch-*"))
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith("epoch-")}
    again = Trial(plan, as_arrays(tables), 0)  # Tune did not hear of the end
    assert again.epoch == 2 and again.advance() and again.epoch == 2
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written

    (folder / "scores.npy").write_bytes(b"damaged")
    assert Trial(plan, as_arrays(tables), 0).epoch == 0


@pytest.fixture
def features(tables) -> Arrays:
    """Nine numbers for each image, one of them telling."""
    values = np.random.default_rng(3).normal(size=(len(tables.images), 9)).astype(np.float32)
    values[:, 4] += tables.splits["target"]
    return replace(as_arrays(tables), images=values)


def test_a_head_goes_on_from_its_last_checkpoint_to_the_bit(make_plan, features, tmp_path):
    start = Start("resnet18.a1_in1k", "random", "frozen", features="1")
    job = replace(make_plan(tmp_path).job, start=start, recipe=Recipe(epochs=3, precision="bfloat16"))
    plans = [replace(make_plan(tmp_path / name), job=job) for name in ("a", "b")]
    straight = Trial(plans[0], features, 0, checkpoint_seconds=1000)
    assert [straight.advance() for _ in range(3)] == [False, False, True]

    killed = Trial(plans[1], features, 0)
    killed.advance()
    killed.advance()
    resumed = Trial(plans[1], features, 0)
    assert resumed.epoch == 2 and resumed.advance()
    results = [read_result(fold_folder(plan.folder, job.key, 0)) for plan in plans]
    assert results[0] is not None and results[1] is not None
    assert results[0].scores.tolist() == results[1].scores.tolist()
    assert results[0].weights.read_bytes() == results[1].weights.read_bytes()
    assert results[0].precision == "bfloat16"  # of the features; a head computes in float32


def test_checkpoints_of_short_epochs_are_written_now_and_then(make_plan, tables, tmp_path):
    plan = make_plan(tmp_path)
    Trial(plan, as_arrays(tables), 0, checkpoint_seconds=1000).advance()
    assert list(fold_folder(tmp_path, plan.job.key, 0).iterdir()) == []
    assert Trial(plan, as_arrays(tables), 0).epoch == 0
