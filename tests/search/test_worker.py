"""What a worker tells of a candidate, without a cluster around it."""

import pytest

from osteo_models.search.candidate import CandidateTrial, Course
from osteo_models.search.development import select_development
from osteo_models.training.recipe import Recipe

SPEC = {"filters": [4], "kernels": [3], "strides": [1], "pools": [4], "pooling": "max", "dense": [4]}


@pytest.fixture
def worker(tables, tmp_path, monkeypatch):
    development = select_development(tables.splits, tables.images, "mri")
    recipe = Recipe(epochs=2, batch_size=16, precision="float32")
    course = Course(recipe, development.deal(2, 1), development.patient, [1, 2], tmp_path, 1, 0)
    monkeypatch.setattr("osteo_models.search.candidate.ray.get", lambda stored: stored)
    made = CandidateTrial.__new__(CandidateTrial)
    made.setup(config(0, SPEC), course=course, arrays=[development.arrays])
    return made


def config(number, spec, rate=None):
    return {"candidate": number, "spec": spec, "learning_rate": rate, "session": 1.0}


def test_a_candidate_is_told_epoch_by_epoch_and_the_process_takes_the_next(worker):
    first, second = worker.step(), worker.step()
    assert (first["candidate"], first["epoch"], second["epoch"], first["session"]) == (0, 1, 2, 1.0)
    assert 0 < first["training_seconds"] < second["training_seconds"] < second["ended"] - second["started"]
    assert worker.reset_config(config(3, SPEC))
    assert (worker.step()["candidate"], worker.step()["epoch"]) == (3, 2)


@pytest.mark.parametrize(
    ("spec", "rate", "reason"),
    [
        (SPEC | {"dense": [10**12]}, None, "out of memory on a worker (RuntimeError: "),  # refused by the kernel
        (SPEC, 1e30, "epoch "),
    ],
)
def test_one_that_cannot_be_trained_says_why_and_the_next_one_is_trained(worker, spec, rate, reason):
    worker.reset_config(config(1, spec, rate))
    steps = [worker.step()]
    while "failed" not in steps[-1]:
        steps.append(worker.step())
    assert len(steps) <= 2 and steps[-1]["failed"].startswith(reason) and "\n" not in steps[-1]["failed"]
    worker.reset_config(config(2, SPEC))
    assert "failed" not in worker.step()


def test_want_of_memory_in_python_is_named_too(worker, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("osteo_models.search.candidate.Candidate", fail)
    assert worker.step()["failed"] == "out of memory on a worker (MemoryError)"
