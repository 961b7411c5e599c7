"""A search on a real local Ray cluster; one for the module, it takes seconds to start."""

from dataclasses import replace

import numpy as np
import pytest

from osteo_models.errors import OsteoError
from osteo_models.params import parse_params
from osteo_models.training.candidate import Course
from osteo_models.training.development import select_development
from osteo_models.training.leaderboard import find_best, summarize_timing
from osteo_models.training.recipe import Recipe
from osteo_models.training.search import run_search
from osteo_models.training.storage import open_study, storage_url
from osteo_models.training.study import Design, Study
from osteo_models.training.tune import open_cluster
from osteo_models.training.winner import estimate_again


@pytest.fixture
def development(tables):
    return select_development(tables.splits, tables.images, "mri")


@pytest.fixture
def design(raw_params, development):
    raw_params["search"]["budgets"]["quick"] = {
        "candidates": 5,
        "folds": 2,
        "epochs": 2,
        "million_macs": 32,
        "million_parameters": 4,
    }
    search = parse_params(raw_params).search
    recipe = Recipe(2, precision="float32")
    return Design(search.space, search.budgets["quick"], None, recipe, 7, 1, "cpu", development.digest(), "c")


def make_course(design, development, folder):
    folds = development.deal(design.budget.folds, design.derive_seed("folds"))
    seeds = [design.derive_seed("weights", fold) for fold in range(len(folds))]
    return Course(design.recipe, folds, development.patient, seeds, folder, 1, 0)


# Ray leaves a socket and a log file open when it shuts down.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_search_its_failures_and_its_winner(design, development, tmp_path):
    url, course = storage_url(tmp_path, None), make_course(design, development, tmp_path / "jobs" / "key")
    changes = []
    with open_cluster(None, development.arrays, cpus=1, gpus=0, precision="float32") as cluster:
        study = Study(open_study(url, design.key), design)
        run_search(study, course, cluster, name="search", on_change=lambda: changes.append(study.count_left()))
        records = study.records()
        assert len(records) == 5 and {record.status for record in records} <= {"finished", "pruned"}
        assert records[0].spec == {} and records[0].epochs == 2
        assert changes[-1] == 0 and len(changes) >= 10  # each is drawn, and ends
        assert not list(course.folder.rglob("*.safetensors"))

        # What the code measures of itself is what happened.
        timings = [record.timing for record in records]
        found = summarize_timing(records, study.sessions())
        assert len({timing.worker for timing in timings}) <= cluster.slots  # processes are used again
        for timing in timings:
            assert study.sessions()[0].started < timing.started
            assert 0 < timing.training_seconds < timing.ended - timing.started
        assert 0 < found["overhead_seconds_per_candidate"] < 10 and 0 <= found["idle_share"] < 1

        # Everything is found finished, and another storage gives the same values.
        again = Study(open_study(url, design.key), design)
        run_search(again, course, cluster, name="search", on_change=lambda: pytest.fail("something ran"))
        assert again.records() == records

        best = find_best(records)
        assert best is not None
        epochs = []
        note = lambda fold, epoch: epochs.append((fold, epoch))  # noqa: E731
        estimate = estimate_again(best, design, development, cluster, folder=tmp_path / "jobs", on_epoch=note)
        assert sorted(epochs) == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert estimate.value is not None and 0 <= estimate.value <= 1
        epochs.clear()
        assert estimate_again(best, design, development, cluster, folder=tmp_path / "jobs", on_epoch=note) == estimate
        assert epochs == []

        # A recipe that makes every loss infinite: each candidate fails with its reason, and the workers go on.
        broken = replace(design, recipe=replace(design.recipe, learning_rate=1e30))
        study = Study(open_study(url, broken.key), broken)
        wild = replace(course, recipe=broken.recipe, folder=tmp_path / "jobs" / "broken")
        with pytest.raises(OsteoError, match=r"search: all 5 candidates failed, the first: .*the loss is (nan|inf)"):
            run_search(study, wild, cluster, name="broken", on_change=lambda: None)
        assert len({record.timing.worker for record in study.records()}) <= cluster.slots


def test_the_images_of_the_cluster_are_the_development_set(development, tables):
    holdout = tables.images[(tables.splits["holdout"] == 1).to_numpy()]
    seen = development.arrays.images
    assert not any((seen == image).all(axis=(1, 2)).any() for image in holdout)
    assert seen.dtype == np.uint8
