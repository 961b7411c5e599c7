import pytest

from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.results import fold_folder, read_result
from osteo_models.training.tables import as_arrays, select_rows
from osteo_models.training.trial import Plan, Trial


@pytest.fixture
def make_plan(small_params, tables):
    jobs = plan_jobs(small_params, tables.digests, Recipe(epochs=2, precision="float32"))
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
