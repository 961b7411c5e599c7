"""Trials on a real local Ray cluster; one for the module, it takes seconds to start."""

from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import ray

from osteo_models.core.errors import OsteoError
from osteo_models.training import cross_validation, tune
from osteo_models.training.cross_validation import run_job
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.ray_cluster import WORKER_ENV, open_cluster
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import find_result, fold_folder

RECIPE = Recipe(epochs=2, precision="float32")


def pick(params, tables, stage, name):
    return next(job for job in plan_jobs(params, tables, RECIPE) if (job.stage, job.name) == (stage, name))


# Ray leaves a socket and a log file open when it shuts down.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_jobs_side_by_side_and_again(small_params, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "MAX_RETRIES", 0)  # each further try of the broken job costs a worker's start
    unimodal = pick(small_params, tables, "stage-5", "unimodal-mri-patient")
    folds = replace(pick(small_params, tables, "stage-1", "unimodal-mri-patient"), folds=2)
    broken = replace(unimodal, spec={"nonsense": 1})
    trained: list[tuple[str, int, int]] = []
    found: dict[str, object] = {}
    told: list[tuple[str, int]] = []
    looks: list[tuple[str, int]] = []

    def find_late(folder, store, key, fold):
        """A shared file system may show what another machine wrote a moment later."""
        looks.append((key, fold))
        return None if looks.count((key, fold)) == 2 and fold == 1 else find_result(folder, store, key, fold)

    monkeypatch.setattr(cross_validation, "find_result", find_late)

    def run(job, cluster):
        rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
        note = lambda job, fold, epoch: trained.append((job.key, fold, epoch))  # noqa: E731
        try:
            found[job.key] = run_job(
                job,
                rows,
                cluster,
                folder=tmp_path / "jobs",
                on_epoch=note,
                on_fold=lambda result: told.append((job.key, result.fold)),
            )
        except OsteoError as error:
            found[job.key] = error

    with open_cluster(None, as_arrays(tables), cpus=1, gpus=0, precision="float32") as cluster:
        assert cluster.slots >= 1 and cluster.precision == "float32"
        environ = ray.get(ray.remote(num_cpus=1)(lambda: Path("/proc/self/environ").read_text()).remote())
        assert {f"{name}={value}" for name, value in WORKER_ENV.items()} <= set(environ.split("\0"))
        threads = [Thread(target=run, args=(job, cluster)) for job in (unimodal, folds, broken)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first = dict(found.items())
        assert sorted(trained) == sorted(
            [
                (unimodal.key, 0, 1),
                (unimodal.key, 0, 2),
                *((folds.key, fold, epoch) for fold in (0, 1) for epoch in (1, 2)),
            ]
        )
        assert sorted(told) == sorted([(unimodal.key, 0), (folds.key, 0), (folds.key, 1)])  # each fold once
        assert "1 of 1 trials failed" in str(first[broken.key]) and "nonsense" in str(first[broken.key])
        monkeypatch.setattr(tune, "MAX_RETRIES", 2)
        blocked = replace(unimodal, seed=unimodal.seed + 1)
        (fold_folder(tmp_path / "jobs", blocked.key, 0) / "epoch-0001.safetensors").mkdir(parents=True)
        run(blocked, cluster)
        assert "1 of 1 trials failed: " in str(found[blocked.key]) and "cannot be written" in str(found[blocked.key])
        assert not [row for row in trained if row[0] == blocked.key]
        # Ray keeps a file for each try that raises: another one would have met the same.
        assert not list((tmp_path / "ray").glob(f"*{blocked.key}*/**/error.txt"))
        (result,) = first[unimodal.key]
        assert len(result.scores) == len(select_rows(unimodal, 0, tables).test)
        assert [epoch["epoch"] for epoch in result.history] == [1, 2]
        assert result.history[1]["train_loss"] < result.history[0]["train_loss"]

        trained.clear()
        (fold_folder(tmp_path / "jobs", folds.key, 1) / "result.json").unlink()
        run(unimodal, cluster)
        run(folds, cluster)
        assert trained == [(folds.key, 1, 1), (folds.key, 1, 2)]  # only the fold without a result
        for key in (unimodal.key, folds.key):
            for before, after in zip(first[key], found[key], strict=True):
                assert before.scores.tolist() == after.scores.tolist()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_trial_larger_than_the_cluster_is_refused(tables):
    with (
        pytest.raises(OsteoError, match=r"experiments\.resources: the cluster has .*lower the resources"),
        open_cluster(None, as_arrays(tables), cpus=10_000, gpus=0, precision="float32"),
    ):
        pass
