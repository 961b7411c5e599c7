"""The jobs of a run keep 32 GPUs busy: real nodes, jobs and durations; GPUs and training are pretended."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from machines import add_machine, start_machines
from ray import tune

from osteo_models.core.terms import modalities_of
from osteo_models.training import cross_validation as ours
from osteo_models.training import tune as runner
from osteo_models.training.fold import Arrays
from osteo_models.training.jobs import Job, plan_jobs
from osteo_models.training.ray_cluster import Cluster, open_cluster, share_slots
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import WEIGHTS, FoldResult, fold_folder, write_result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    # Ray leaves sockets and log files open when it shuts down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NODES, GPUS, EPOCHS, SEEDS = 4, 8, 20, (1, 2)
# Of an epoch of the paper's profile on one thread each, two at a time.
SECONDS = {
    "unimodal": {"mri": 2.2, "ct": 3.5, "combined": 4.9},
    "traditional_cnn": {"mri": 2.4, "ct": 2.4, "combined": 3.4},
    "multimodal": {"multimodal": 14.0},
}


def make_stub(told: Path, job: Job) -> type:
    """A trial that waits as long as training takes; made here, so that a worker needs no PyTorch to know it."""
    key, name, seconds = job.key, job.name, SECONDS[job.architecture][job.images]

    class Stub(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            (self.fold,), self.epoch, self.begun = new_config["trial"].seeds, 0, time.time()
            return True

        def step(self) -> dict[str, Any]:
            import ray

            time.sleep(seconds)
            self.epoch += 1
            if self.epoch == EPOCHS:
                node, (gpu,) = ray.get_runtime_context().get_node_id(), ray.get_gpu_ids()
                found = {"job": name, "node": node, "gpu": gpu, "begun": self.begun, "ended": time.time()}
                found["work"] = EPOCHS * seconds
                (told / f"{key}-{self.fold}.json").write_text(json.dumps(found))
            report = SimpleNamespace(epoch=SimpleNamespace(epoch=self.epoch), finished=self.epoch == EPOCHS)
            return {"report": report}

    return Stub


def leave_result(folder: Path, key: str, fold: int) -> None:
    """What a trial would have left."""
    place = fold_folder(folder, key, fold)
    place.mkdir(parents=True, exist_ok=True)
    (place / WEIGHTS).write_bytes(b"")
    write_result(place, FoldResult(fold, np.zeros(1, np.float32), [], "float32", "cpu", 1, 1, place / WEIGHTS))


def plan(params) -> list[Job]:
    """The networks that are trained from scratch, in all six stages, for two seeds."""
    jobs: list[Job] = []
    for seed in SEEDS:
        found = plan_jobs(params, {"images.npy": str(seed)}, Recipe(epochs=EPOCHS, precision="float32"))
        jobs += [job for job in found if job.images in SECONDS.get(job.architecture, {})]
    return sorted(jobs, key=lambda job: job.folds * len(modalities_of(job.images)), reverse=True)


def run_all(jobs: Sequence[Job], cluster: Cluster, folder: Path) -> None:
    """Jobs side by side as the flow runs them."""
    folds = sum(job.folds for job in jobs)

    def run(job: Job) -> None:
        at_once = share_slots(cluster, job.folds, folds)
        ours.run_job(job, dict.fromkeys(range(job.folds)), cluster, folder=folder, at_once=at_once)  # type: ignore[arg-type]

    with ThreadPoolExecutor(cluster.slots) as pool:
        list(pool.map(run, jobs))


def put_stubs_in_place(patch: pytest.MonkeyPatch, told: Path, jobs: Path, planned: Sequence[Job]) -> None:
    """Stubs for the trials with PyTorch; a result is there as soon as a stub is done."""

    by_key = {job.key: job for job in planned}

    def register(key: str, settings: Any, inputs: Any) -> str:
        stub = tune.with_resources(make_stub(told, by_key[key]), {"cpu": settings.cpus, "gpu": settings.gpus})
        with runner._REGISTERING:
            tune.register_trainable(f"Stub_{key}", stub)
        return f"Stub_{key}"

    find = ours.find_result

    def find_result(folder: Path, store: Any, key: str, fold: int) -> Any:
        if (told / f"{key}-{fold}.json").exists():
            leave_result(jobs, key, fold)
        return find(folder, store, key, fold)

    patch.setattr(runner, "_register_trainable", register)
    patch.setattr(ours, "find_result", find_result)
    patch.setattr(ours, "make_config", lambda job, fold: SimpleNamespace(key=job.key, seeds={fold: 0}))


def test_thirty_two_gpus_are_busy_until_the_last_wave(small_params, tmp_path, monkeypatch) -> None:
    token, told, folder = tmp_path / "token", tmp_path / "told", tmp_path / "jobs"
    token.write_text("a" * 64, encoding="utf-8")
    told.mkdir()
    jobs = plan(small_params)
    put_stubs_in_place(monkeypatch, told, folder, jobs)
    nothing = Arrays(np.zeros((1, 80, 60), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64))
    settings = {"cpus": 1.0, "gpus": 1.0, "precision": "float32", "device": "cpu"}
    with start_machines(token) as machines:
        for _ in range(NODES):
            add_machine(machines, num_cpus=GPUS, num_gpus=GPUS)
        with open_cluster(machines.address, nothing, **settings) as cluster:
            assert cluster.slots == NODES * GPUS
            started = time.time()
            run_all(jobs, cluster, folder)
    trials = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(told.glob("*.json"))]
    assert len(trials) == sum(job.folds for job in jobs)
    # Until the first trial begins, this machine's few processors start the processes of 32.
    first, last = (choose(trial["begun"] for trial in trials) for choose in (min, max))
    # Busy is who trains: pauses between two epochs, in which the driver is waited for, are none of it.
    parts = [(min(trial["ended"], last) - trial["begun"]) / (trial["ended"] - trial["begun"]) for trial in trials]
    work = sum(trial["work"] * part for trial, part in zip(trials, parts, strict=True))
    busy = work / (NODES * GPUS * (last - first))
    whole = max(trial["ended"] for trial in trials) - started
    overall = sum(trial["work"] for trial in trials) / (NODES * GPUS * whole)
    sys.stdout.write(
        f"\n{len(jobs)} jobs, {len(trials)} trials, {whole:.0f} s; busy {busy:.1%} from the first trial's "
        f"begin at {first - started:.0f} s to the last one's at {last - started:.0f} s, {overall:.1%} in all\n"
    )
    if picture := os.environ.get("OSTEO_TEST_PICTURE"):
        draw(trials, started, (first, last), busy, Path(picture))
    moments = sorted((moment, step) for trial in trials for moment, step in ((trial["begun"], 1), (trial["ended"], -1)))
    assert max(itertools.accumulate(step for _, step in moments)) == NODES * GPUS  # all at work, none with two trials
    loads = Counter[tuple[str, str]]()
    for trial in trials:
        loads[trial["node"], str(trial["gpu"])] += trial["work"]
    # A GPU takes the next trial when it has nothing to do: in the end none has done one trial more than another.
    assert len(loads) == NODES * GPUS
    assert max(loads.values()) - min(loads.values()) <= max(trial["work"] for trial in trials)


def draw(trials: list[dict[str, Any]], started: float, wave: tuple[float, float], busy: float, path: Path) -> None:
    """A row for each GPU, a bar for each trial."""
    from matplotlib.figure import Figure

    rows = sorted({(trial["node"], str(trial["gpu"])) for trial in trials})
    colours = {"unimodal": "#3b6ea5", "traditional_cnn": "#b8863b", "multimodal": "#7a4b8c"}
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, colour in colours.items():
        own = [trial for trial in trials if trial["job"].startswith(name)]
        places = [rows.index((trial["node"], str(trial["gpu"]))) for trial in own]
        widths = [trial["ended"] - trial["begun"] for trial in own]
        left = [trial["begun"] - started for trial in own]
        axes.barh(places, widths, left=left, height=0.8, color=colour, edgecolor="white", linewidth=0.6, label=name)
    for moment in wave:
        axes.axvline(moment - started, color="#444", linewidth=1, linestyle="--")
    axes.set(
        xlabel="seconds since the start", ylabel="GPU", yticks=[0, 8, 16, 24, 31], ylim=(-0.8, 31.8), xlim=(0, None)
    )
    axes.set_title(f"32 pretended GPUs on 4 nodes: {busy:.1%} busy between the dashed lines", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
