"""Jobs on a Ray cluster of several nodes: what reaches the workers, nodes that die and join, what is refused."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from machines import add_machine, list_trials, start_machines, use_token

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.training.cross_validation import run_job
from osteo_models.training.fold import Arrays
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.ray_cluster import WORKER_ENV, open_cluster, share_slots
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import TrialSettings
from tests.training.small_fits import train_fold

pytestmark = [
    pytest.mark.fault,
    # Ray leaves sockets and log files open when it shuts down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ONE = {"cpus": 1.0, "gpus": 0.0, "precision": "float32"}
NOWHERE = Arrays(np.zeros((1, 80, 60), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64))


@pytest.fixture(scope="module")
def token(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "token"
    path.write_text("a" * 64, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def machines(token, tmp_path_factory):
    """A head, and two nodes on which other code of our name is installed, which cannot be used."""
    other = tmp_path_factory.mktemp("installed") / "osteo_models"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('the code that is installed on a worker')\n")
    with start_machines(token) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(other.parent))
        add_machine(cluster, num_cpus=1, num_gpus=1)
        cluster.spare = add_machine(cluster, num_cpus=1)
        yield cluster


@pytest.fixture
def job(small_params, tables):
    """Four folds of a network so small that an epoch takes a fraction of a second."""
    found = plan_jobs(small_params, tables, Recipe(epochs=30, precision="float32"))
    job = next(job for job in found if (job.stage, job.name) == ("stage-1", "traditional_cnn-mri-patient"))
    return replace(job, folds=4, spec={"filters": [4, 4], "pools": 4, "dense": [8]})


def measure_store(node) -> int:
    """Bytes of the object store that a node holds in memory, shared by its workers."""
    raylet = node.all_processes["raylet"][0].process.pid
    lines = Path(f"/proc/{raylet}/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssShmem"))


def test_code_is_sent_and_data_lies_once_on_each_node(machines):
    images = np.random.default_rng(0).integers(0, 255, (4000, 80, 60), dtype=np.uint8)
    arrays = Arrays(images, np.zeros(4000, np.int64), np.zeros(4000, np.int64))
    settings = {"cpus": 0.25, "gpus": 0.0, "precision": "float32"}

    before = {node: measure_store(node) for node in (machines.head_node, *machines.worker_nodes)}

    given = dict(WORKER_ENV)

    def look(inputs: list, seconds: float) -> tuple[str, str, int]:
        assert os.environ.items() >= given.items()  # the settings of workers come with the code
        import osteo_models.training.trial as code

        found = ray.get(inputs[0])
        time.sleep(seconds)  # so that no worker is idle when the next one is asked for
        return ray.get_runtime_context().get_node_id(), code.__file__, int(found.images.sum(dtype=np.int64))

    with open_cluster(machines.address, arrays, **settings) as cluster:
        assert cluster.slots == 8 and cluster.shared
        task = ray.remote(num_cpus=0.25, scheduling_strategy="SPREAD")(look)
        seen = ray.get([task.remote([cluster.arrays], 2.0) for _ in range(4)])  # two on each node
        assert {total for _, _, total in seen} == {int(images.sum(dtype=np.int64))}
        assert all("working_dir_files" in place for _, place, _ in seen)
        used = [measure_store(node) - size for node, size in before.items()]
        assert len(used) == 3 and len({node for node, _, _ in seen}) == 2
        assert all(images.nbytes <= size < 1.5 * images.nbytes for size in used), used


def test_four_trials_share_a_gpu(machines):
    settings = {"cpus": 0.25, "gpus": 0.25, "precision": "float32"}
    with open_cluster(machines.address, NOWHERE, device="cpu", **settings) as cluster:
        assert (cluster.slots, cluster.device) == (4, "cpu")
        task = ray.remote(num_cpus=0.25, num_gpus=0.25)(lambda: (time.sleep(1), ray.get_gpu_ids())[1])
        assert ray.get([task.remote() for _ in range(4)]) == [[0]] * 4
    with (
        pytest.raises(OsteoError, match="a GPU was asked for, and PyTorch sees none"),
        open_cluster(machines.address, NOWHERE, **settings),
    ):
        pass


def test_a_node_dies_another_joins_and_nothing_finished_is_lost(machines, job, tables, tmp_path):
    rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
    epochs: list[tuple[int, int]] = []
    finished: list[int] = []
    joined: list[object] = []
    used: list[int] = []

    def on_epoch(_, fold: int, epoch: int) -> None:
        epochs.append((fold, epoch))
        if not joined and len({number for number, done in epochs if done >= 3}) == 2:
            machines.remove_node(machines.spare, allow_graceful=False)
            joined.append(add_machine(machines, num_cpus=1))
            machines.spare = joined[0]
        for node in joined:
            used.extend(list_trials(node))

    with open_cluster(machines.address, as_arrays(tables), **ONE) as cluster:
        assert cluster.slots == 2 and share_slots(cluster, folds=4, left=4) == 4
        note = lambda result: finished.append(result.fold)  # noqa: E731
        results = run_job(job, rows, cluster, folder=tmp_path, at_once=4, on_epoch=on_epoch, on_fold=note)
        epochs_before = len(epochs)
        run_job(job, rows, cluster, folder=tmp_path, on_epoch=on_epoch)
        assert len(epochs) == epochs_before  # nothing is trained again

    assert sorted(finished) == [0, 1, 2, 3]
    assert used, "the node that joined got no trial"
    for fold in rows:
        told = [epoch for number, epoch in epochs if number == fold]
        # What was under way when the node died: trained again, or checkpointed and not told of any more.
        assert len(told) - len(set(told)) <= 1 and len(set(range(1, 31)) - set(told)) <= 1, told
        assert [epoch["epoch"] for epoch in results[fold].history] == list(range(1, 31))
    for fold in rows:
        straight = train_fold(TrialSettings(rows, tmp_path / "straight", 1, 0), job, as_arrays(tables), fold)
        assert results[fold].scores.tolist() == straight.scores.tolist()


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_folds_train_side_by_side_as_are_allowed(machines, job, tables, tmp_path, at_once):
    rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
    begun, running, most = set[int](), set[int](), 0

    def on_epoch(_, fold: int, epoch: int) -> None:
        nonlocal most
        begun.add(fold)
        running.add(fold)
        most = max(most, len(running))
        if epoch == job.recipe.epochs:
            running.remove(fold)

    with open_cluster(machines.address, as_arrays(tables), **ONE) as cluster:
        run_job(job, rows, cluster, folder=tmp_path, at_once=at_once, on_epoch=on_epoch)
    assert begun == set(rows) and most == at_once


def test_what_is_no_usable_cluster_is_told_in_one_line(machines, token, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("b" * 64, encoding="utf-8")
    try:
        use_token(wrong)
        with pytest.raises(OsteoError) as told, open_cluster(machines.address, NOWHERE, **ONE):
            pass
        assert "the cluster refuses the token of this process; set RAY_AUTH_MODE=token" in str(told.value)
        assert "b" * 64 not in str(told.value) and "\n" not in str(told.value)
    finally:
        use_token(token)
    with pytest.raises(InputError, match="address of Ray Client"), open_cluster("ray://127.0.0.1:1", NOWHERE, **ONE):
        pass
    assert os.environ["RAY_AUTH_MODE"] == "token"
