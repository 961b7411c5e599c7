"""What a worker reports of its trials, without a cluster."""

from dataclasses import replace

import pytest

from osteo_models.training import tune
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import TrialSettings, make_config
from osteo_models.training.tune import TrialRunner

SPEC = {"filters": [4], "pools": 4, "dense": [4]}


@pytest.fixture
def make_config_of(small_params, tables):
    jobs = plan_jobs(small_params, tables, Recipe(epochs=2, precision="float32"))
    job = next(job for job in jobs if (job.stage, job.name) == ("stage-5", "traditional_cnn-mri-patient"))

    def make(seed, rate=1e-3, **spec):
        recipe = replace(job.recipe, learning_rate=rate)
        return {"trial": make_config(replace(job, seed=seed, spec=SPEC | spec, recipe=recipe), 0)}

    make.rows = {0: select_rows(job, 0, tables)}
    return make


@pytest.fixture
def worker(make_config_of, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tune.ray, "get", lambda stored: stored)
    made = TrialRunner.__new__(TrialRunner)
    settings = TrialSettings(make_config_of.rows, tmp_path, 1, 0)
    made.setup(make_config_of(0), settings=settings, inputs=[as_arrays(tables)])
    return made


def test_each_epoch_is_reported_and_the_process_takes_the_next_trial(worker, make_config_of):
    first, second = worker.step()["report"], worker.step()["report"]
    assert [(report.epoch.epoch, report.finished) for report in (first, second)] == [(1, False), (2, True)]
    assert 0 < first.training_seconds < second.training_seconds < second.ended - second.started
    assert worker.reset_config(make_config_of(3))
    assert worker.step()["report"].epoch.epoch == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dense": [10**12]}, "can't allocate memory"),  # refused by the kernel
        ({"rate": 1e30}, "the loss is "),
        ({"nonsense": 1}, "unknown spec key `nonsense`"),
    ],
)
def test_a_trial_that_cannot_be_trained_reports_why_and_the_next_one_is_trained(
    worker, make_config_of, changes, reason
):
    worker.reset_config(make_config_of(1, **changes))
    reports = [worker.step()["report"]]
    while not reports[-1].finished:
        reports.append(worker.step()["report"])
    assert len(reports) <= 2 and reports[-1].epoch is None and reason in reports[-1].failure
    worker.reset_config(make_config_of(2))
    assert worker.step()["report"].failure == ""


def test_other_errors_are_raised_for_tune_to_repeat_the_trial(worker, make_config_of, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(tune, "Trial", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        worker.step()
    monkeypatch.setattr(tune, "Trial", lambda *_: (_ for _ in ()).throw(MemoryError))
    assert worker.step()["report"].failure == "MemoryError"
