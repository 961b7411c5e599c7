"""Features and heads on a real local Ray cluster; one for the module, it takes seconds to start."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from osteo_models.core.errors import OsteoError
from osteo_models.core.params import parse_params
from osteo_models.models import build
from osteo_models.serving.network import read_network
from osteo_models.training import cross_validation, tune
from osteo_models.training.backbone_cache import BackboneCache
from osteo_models.training.cross_validation import run_job
from osteo_models.training.failures import run_tasks
from osteo_models.training.fold import Arrays, FoldRows
from osteo_models.training.frozen_features import CHUNK, extract_rows, read_features
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.outputs import write_model
from osteo_models.training.pretrained_plan import load_pretrained
from osteo_models.training.ray_cluster import open_cluster
from osteo_models.training.recipe import Recipe, resolve_precision
from osteo_models.training.result_store import find_result
from osteo_models.training.trial import TrialSettings
from tests.conftest import ROOT
from tests.training.extracting import CHUNKS, START, extract, make_images
from tests.training.small_fits import train_fold

# Ray leaves a socket and a log file open when it shuts down.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
RECIPE = Recipe(epochs=4, precision="float32")


@pytest.fixture(scope="module")
def cluster_of():
    """The cluster, opened with the arrays of whoever asks first; they are the same for all."""
    opened = []

    def get(arrays):
        if not opened:
            context = open_cluster(None, arrays, cpus=1, gpus=0, precision="float32")
            opened.append((context, context.__enter__()))
        return opened[0][1]

    yield get
    for context, _ in opened:
        context.__exit__(None, None, None)


@pytest.fixture
def jobs(raw_params, small_params, tables):
    content = small_params.model_dump(mode="json")
    spec = {"backbone": "test_efficientnet", "weights": "random"}
    content["architectures"] |= {"tiny": spec, "whole": spec | {"transfer": "full"}}
    for stage in ("stage-1", "stage-2", "stage-5"):
        content["stages"][stage]["architectures"] = ["tiny", "whole"]
    content["splits"]["folds"] = 2
    planned = plan_jobs(parse_params(content), tables, RECIPE)
    return {f"{job.stage} {job.name}": job for job in planned}


class Bench:
    """Runs jobs on the cluster and counts what it did."""

    def __init__(self, cluster, tables, folder: Path, stop_after: int = 1000) -> None:
        self.cluster, self.tables, self.folder, self.left = cluster, tables, folder, stop_after
        self.chunks, self.epochs, self.told = [], [], []
        self.backbones = BackboneCache(cluster, as_arrays(tables), folder / "features", None, self.on_chunk)

    def on_chunk(self, start, images, total):
        self.chunks.append((images, total))
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def run(self, job):
        rows = {fold: select_rows(job, fold, self.tables) for fold in range(job.folds)}
        note = lambda job, fold, epochs: self.epochs.append((job.key, fold, epochs))  # noqa: E731
        inputs = self.backbones.prepare(job)
        tell = lambda result: self.told.append((job.key, result.fold))  # noqa: E731
        return run_job(job, rows, self.cluster, folder=self.folder / "jobs", inputs=inputs, on_epoch=note, on_fold=tell)


def test_features_are_made_once_for_all_and_heads_learn_on_them(
    cluster_of, jobs, tables, small_params, tmp_path, monkeypatch
):
    cluster = cluster_of(as_arrays(tables))
    bench = Bench(cluster, tables, tmp_path, stop_after=3)
    first, second = jobs["stage-1 tiny-mri-patient"], jobs["stage-2 tiny-ct-patient"]
    with pytest.raises(KeyboardInterrupt):  # after two of three chunks
        bench.run(first)
    features = first.pretrained.features
    stored = tmp_path / "features"
    assert [path.name for path in stored.iterdir()] == [features]  # nothing half
    assert len(list((stored / features).iterdir())) == 2

    bench = Bench(cluster, tables, tmp_path)
    results = bench.run(first)
    assert bench.chunks == [(2 * CHUNK, 3 * CHUNK), (3 * CHUNK, 3 * CHUNK)] and len(tables.images) == 3 * CHUNK
    kept = read_features(stored, features)
    assert kept is not None and kept.seconds > 0 and kept.values.shape[0] == len(tables.images)
    assert sorted(bench.epochs) == [(first.key, 0, 4), (first.key, 1, 4)]
    for result in results:
        assert [epoch["epoch"] for epoch in result.history] == [1, 2, 3, 4]
        assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]

    assert sorted(bench.told) == [(first.key, 0), (first.key, 1)]

    again = Bench(cluster, tables, tmp_path)
    with monkeypatch.context() as patch:  # a shared file system shows what a worker wrote a moment later
        looks = itertools.count()
        find_late = lambda *given: find_result(*given) if next(looks) >= 4 else None  # noqa: E731
        patch.setattr(cross_validation, "find_result", find_late)
        again.run(second)
    assert sorted(again.told) == [(second.key, 0), (second.key, 1)]
    assert again.chunks == [] and len(again.epochs) == 2  # other rows, the same features
    assert [each.scores.tolist() for each in again.run(first)] == [each.scores.tolist() for each in results]
    assert len(again.epochs) == 2

    last = jobs["stage-5 tiny-mri-patient"]
    (result,) = again.run(last)
    write_model(tmp_path, last, result, prepare=small_params.prepare, threshold=0.5)
    folder = tmp_path / "models" / "tiny-mri"
    loaded = read_network(folder)
    rows = select_rows(last, 0, tables).test
    served = loaded.score(tables.images[rows], ["mri"] * len(rows))
    np.testing.assert_allclose(served, result.scores, atol=1e-5)
    start = build("tiny", seed=last.pretrained.seed, **last.spec).backbone.state_dict()
    assert all(np.array_equal(start[name], each) for name, each in loaded.network.backbone.state_dict().items())


def test_a_network_trained_whole_and_one_that_is_too_large_for_memory(cluster_of, jobs, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "MAX_RETRIES", 0)  # each further try costs a worker's start
    bench = Bench(cluster_of(as_arrays(tables)), tables, tmp_path)
    job = jobs["stage-5 whole-mri-patient"]
    small = replace(job, recipe=replace(RECIPE, epochs=1))
    (result,) = bench.run(small)
    assert bench.chunks == [] and result.trainable_parameters > 100_000
    large = replace(job, architecture="traditional_cnn", spec={"dense": [10**12]}, pretrained=None)
    with pytest.raises(OsteoError, match=r"1 of 1 trials failed: out of memory on a worker \(.*can't allocate memory"):
        bench.run(large)


def test_a_task_that_dies_is_tried_again_and_the_others_go_on(cluster_of, tables, tmp_path):
    """1 dies at its first try, 2 at every try, 3 has no memory; all others work."""

    def work(item: int, folder: str) -> int:
        (Path(folder) / f"{item}-{os.getpid()}").touch()
        tries = len(list(Path(folder).glob(f"{item}-*")))
        if item == 2 or (item == 1 and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 3:
            raise MemoryError(f"no room for {item}")
        return item * 10

    cluster_of(as_arrays(tables))
    task = ray.remote(work).options(max_retries=0)
    done = {}
    errors = run_tasks(lambda item: task.remote(item, str(tmp_path)), [0, 1, 2, 3, 4], done.__setitem__)
    assert done == {0: 0, 1: 10, 4: 40}
    assert sorted(type(error).__name__ for error in errors) == ["RayTaskError(MemoryError)", "WorkerCrashedError"]
    assert len(list(tmp_path.glob("2-*"))) == 3


def test_a_worker_that_was_interrupted_is_not_used_again(cluster_of, tables, tmp_path):
    """Python cannot import a module again whose first import was broken off."""

    def work(item: int, folder: str) -> int:
        (Path(folder) / f"{item}-{os.getpid()}").touch()
        if item == 1:
            time.sleep(60)
        return os.getpid()

    def stop(item: int, pid: int) -> None:  # 1 may yet wait for a worker, or take the one that 0 had
        while not list(tmp_path.glob("1-*")):
            time.sleep(0.05)
        raise KeyboardInterrupt

    cluster_of(as_arrays(tables))
    task = ray.remote(work).options(max_retries=0)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(lambda item: task.remote(item, str(tmp_path)), [0, 1], stop)
    (interrupted,) = tmp_path.glob("1-*")
    used = {}
    assert run_tasks(lambda item: task.remote(item, str(tmp_path)), [0, 2, 3, 4], used.__setitem__) == []
    assert sorted(used) == [0, 2, 3, 4] and int(interrupted.name.partition("-")[2]) not in used.values()


@pytest.mark.fault
def test_a_killed_extraction_leaves_whole_chunks_and_goes_on(cluster_of, tables, tmp_path):
    """The driver dies of SIGKILL with some chunks done, on the cluster that then finishes the work."""
    cluster_of(as_arrays(tables))
    arrays, chunks = make_images(), tmp_path / START.features
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "tests.training.extracting", str(tmp_path), address]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 200
            while not list(chunks.glob("[0-9]*.npz")):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "no chunk was finished in time"
                time.sleep(0.005)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = {path: np.load(path)["values"] for path in chunks.glob("[0-9]*.npz")}  # each can be read
    assert 0 < len(kept) < CHUNKS and {len(values) for values in kept.values()} == {CHUNK}
    assert read_features(tmp_path, START.features) is None
    (tmp_path / f".{START.features}.npy.1").write_bytes(b"half of a file")  # killed a moment later

    steps, cluster = [], replace(cluster_of(as_arrays(tables)), arrays=ray.put(arrays))
    extract(cluster, arrays, tmp_path, lambda _, done, total: steps.append((done, total)))
    assert steps[0] == (len(kept) * CHUNK, CHUNKS * CHUNK)
    assert len(steps) == 1 + CHUNKS - len(kept) and steps[-1][0] == CHUNKS * CHUNK
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{START.features}.json", f"{START.features}.npy"]
    values = read_features(tmp_path, START.features).values
    for path, before in kept.items():
        first = int(path.name.partition("-")[0])
        assert np.array_equal(values[first : first + CHUNK], before)
    network = build("tiny", backbone=START.backbone, weights="random").eval()
    network.backbone.load_state_dict(load_pretrained(START, None))
    last = extract_rows(network, arrays.images[-CHUNK:], arithmetic="float32", device="cpu")
    np.testing.assert_allclose(values[-CHUNK:], last, atol=1e-5)


@pytest.mark.slow
def test_a_whole_cross_validation_costs_a_fifth_of_one_pass_of_features(params, tmp_path):
    """CPU seconds of the work itself, of the smallest backbone of all: 20 epochs, and all that a fold writes.

    Of five like folds one is trained, of the 2,157 images some are extracted; the best of three tries each.
    """
    rng = np.random.default_rng(0)
    jobs = plan_jobs(params, {}, Recipe(epochs=20, precision="auto"))
    job = next(job for job in jobs if (job.stage, job.architecture) == ("stage-3", "efficientnet_lite0"))
    sample = rng.integers(0, 256, (64, 80, 60)).astype(np.uint8)
    network = build(job.architecture, start=load_pretrained(job.pretrained, None), **job.spec)
    network = network.to(memory_format=torch.channels_last)
    arithmetic = resolve_precision("auto", "cpu")
    values, extraction = spend(lambda: extract_rows(network, sample, arithmetic=arithmetic, device="cpu"))
    extraction *= 2157 / len(sample)

    features = np.abs(rng.normal(values.mean(), values.std(), (2157, values.shape[1]))).astype(np.float32)
    arrays = Arrays(features, rng.integers(0, 2, 2157), np.zeros(2157, bool))
    folds = np.array_split(rng.permutation(2041), 5)
    rows = {0: FoldRows(np.concatenate(folds[1:]), folds[0])}

    def train():
        folder = tmp_path / str(time.monotonic_ns())
        train_fold(TrialSettings(rows, folder, 1, 0, checkpoint_seconds=2.0), job, arrays)

    _, training = spend(train)
    assert 5 * training <= 0.2 * extraction, f"{5 * training:.1f} s of training, {extraction:.1f} s of features"


def spend(work):
    """What some work gives, and its CPU seconds on one thread."""
    torch.set_num_threads(1)
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        found = work()
        best = min(best, time.process_time() - began)
    return found, best
