"""Pretrained networks on the cluster: their starts and features, made once, and the training of heads on features.

Plain Ray tasks, whose worker processes are shared: a head is trained in about a second, and a process of its own would
take longer to start than to work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from osteo_models.models.pretrained import PretrainedNetwork, build_pretrained
from osteo_models.training.acceleration import hold_freed_memory
from osteo_models.training.failures import MOST_FAILURES, explain_failures
from osteo_models.training.frozen_features import (
    Chunk,
    Features,
    extract_rows,
    feature_files,
    join_chunks,
    list_missing,
    read_features,
    split_rows,
    write_chunk,
)
from osteo_models.training.jobs import Job
from osteo_models.training.pretrained_plan import Start, load_start
from osteo_models.training.ray_cluster import Cluster
from osteo_models.training.recipe import Arithmetic
from osteo_models.training.result_store import check_reach, find_result
from osteo_models.training.results import FoldResult
from osteo_models.training.trial import Arrays, Plan, Trial, check_device, count_threads

OnEpoch = Callable[[Job, int, int], None]  # job, fold, finished epochs
OnFold = Callable[[FoldResult], None]
OnChunk = Callable[[Start, int, int], None]  # of whose features, images done, images in all
Item = TypeVar("Item")

CHECKPOINT_SECONDS: Final = 2.0  # a head's epoch takes a fraction of one, less than its checkpoint

_networks: dict[str, PretrainedNetwork] = {}  # of this worker process: the one whose features it extracts


@dataclass(frozen=True)
class Inputs:
    """What the trials of a pretrained network read beside, or instead of, the images.

    Attributes:
        features: `Arrays` with features in the place of images, for a frozen backbone.
        start: The backbone's tensors, where it is trained, too, and does not start from random ones.
        seconds: That the features took.
    """

    features: ray.ObjectRef | None = None
    start: ray.ObjectRef | None = None
    seconds: float = 0.0


class Starters:
    """The inputs of pretrained networks, each made once by whichever job asks first; the others wait for it.

    Args:
        cluster: From `open_cluster`.
        arrays: As the cluster has them.
        folder: Of stored features; the cluster's shelf has them too.
        weights_dir: OSTEO_WEIGHTS_DIR.
        on_chunk: Called in the driver before the first chunk of images and after each.
    """

    def __init__(
        self, cluster: Cluster, arrays: Arrays, folder: Path, weights_dir: Path | None, on_chunk: OnChunk
    ) -> None:
        self._cluster, self._arrays, self._folder = cluster, arrays, folder
        self._weights_dir, self._on_chunk = weights_dir, on_chunk
        self._shelf = cluster.shelf / "features" if cluster.shelf else None
        self._made: dict[Start, Future[Inputs]] = {}
        self._lock = threading.Lock()

    def prepare(self, job: Job) -> Inputs | None:
        """The inputs of a job; None where it needs none.

        Raises:
            WeightsError: The weights are gone or damaged since the job was planned.
            OsteoError: The extraction failed; every job that waits for it is told the same.
        """
        start = job.start
        if start is None or (not start.frozen and start.weights == "random"):
            return None
        with self._lock:
            asked = start in self._made
            future = self._made.setdefault(start, Future())
        if not asked:
            try:
                future.set_result(self._make(start))
            except BaseException as error:  # noqa: BLE001  # raised below, and in every job that waits
                future.set_exception(error)
        return future.result()

    def _make(self, start: Start) -> Inputs:
        if not start.frozen:
            return Inputs(start=ray.put(load_start(start, self._weights_dir)))
        features = self._find(start) or self._extract(start)
        arrays = Arrays(features.values, self._arrays.target, self._arrays.is_ct)
        return Inputs(features=ray.put(arrays), seconds=features.seconds)

    def _find(self, start: Start) -> Features | None:
        shelf, names = self._shelf, feature_files(start.features)
        found = read_features(self._folder, start.features)
        if found is None and shelf and set(names) <= set(shelf.list_names()):
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                shelf.fetch(name, self._folder)
            found = read_features(self._folder, start.features)
        return found

    def _extract(self, start: Start) -> Features:
        cluster, count = self._cluster, len(self._arrays.images)
        chunks = split_rows(count)
        missing = list_missing(self._folder, start.features, chunks)
        inputs = [cluster.arrays, ray.put(load_start(start, self._weights_dir))]
        task = ray.remote(_extract_chunk).options(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)
        done = count - sum(stop - first for first, stop in missing)
        self._on_chunk(start, done, count)  # the clock starts

        def keep(chunk: Chunk, result: tuple[Any, float]) -> None:
            nonlocal done
            write_chunk(self._folder, start.features, chunk, *result)
            done += chunk[1] - chunk[0]
            self._on_chunk(start, done, count)

        settings = (cluster.precision, cluster.cpus, cluster.device)
        errors = run_tasks(lambda chunk: task.remote(start, inputs, chunk, *settings), missing, keep)
        if errors:
            raise explain_failures(errors, len(missing), f"features of {start.backbone}")
        features = join_chunks(self._folder, start.features, chunks)
        if self._shelf:
            for name in feature_files(start.features):
                self._shelf.put(self._folder / name)
        return features


def train_heads(plan: Plan, cluster: Cluster, features: ray.ObjectRef, on_epoch: OnEpoch, on_fold: OnFold) -> None:
    """Train the folds of a plan on stored features, as many at once as the cluster has room for.

    Raises:
        OsteoError: Folds failed, with the reason of the first; the others have their results.
    """
    job = plan.job
    task = ray.remote(_train_head).options(num_cpus=plan.cpus, num_gpus=plan.gpus, max_retries=0)

    def tell(fold: int, epochs: int) -> None:
        on_epoch(job, fold, epochs)
        result = find_result(plan.folder, plan.shelf, job.key, fold)
        if result is not None:
            on_fold(result)

    errors = run_tasks(lambda fold: task.remote(plan, [features], fold), sorted(plan.rows), tell)
    if errors:
        raise explain_failures(errors, len(plan.rows), f"{job.stage} {job.name}")


def run_tasks(
    submit: Callable[[Item], ray.ObjectRef], items: Sequence[Item], on_done: Callable[[Item, Any], None]
) -> list[BaseException]:
    """Run a task for each item to its end, whatever becomes of the others; give the errors of those that failed.

    A task whose worker dies is started again; one that raises is not. Ray itself would start what it killed for want
    of memory again without end.
    """
    waiting = {submit(item): (item, 0) for item in items}
    errors: list[BaseException] = []
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            item, failures = waiting.pop(ready)
            try:
                on_done(item, ray.get(ready))
            except RayTaskError as error:
                errors.append(error)
            except RayError as error:
                if failures < MOST_FAILURES:
                    waiting[submit(item)] = (item, failures + 1)
                else:
                    errors.append(error)
    finally:
        for ready in waiting:  # only where something else went wrong
            ray.cancel(ready, force=True)  # a worker interrupted amid its imports would fail whatever comes next
    return errors


def _extract_chunk(
    start: Start, inputs: list[ray.ObjectRef], chunk: Chunk, arithmetic: Arithmetic, cpus: float, device: str
) -> tuple[Any, float]:
    """Features of a chunk, and the seconds that they took; on a worker."""
    torch.set_num_threads(count_threads(cpus))
    check_device(device)
    if start.features not in _networks:
        _networks.clear()
        hold_freed_memory()
        network = build_pretrained(
            torch.Generator(), ray.get(inputs[1]), backbone=start.backbone, weights=start.weights
        )
        _networks[start.features] = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    arrays: Arrays = ray.get(inputs[0])
    began = time.perf_counter()
    images: Any = arrays.images[slice(*chunk)]
    values = extract_rows(_networks[start.features], images, arithmetic=arithmetic, device=device)
    return values, time.perf_counter() - began


def _train_head(plan: Plan, features: list[ray.ObjectRef], fold: int) -> int:
    """Train one fold to its end; on a worker."""
    check_reach(plan.folder, plan.shelf)
    trial = Trial(plan, ray.get(features[0]), fold, checkpoint_seconds=CHECKPOINT_SECONDS)
    while not trial.advance():
        pass
    return trial.epoch
