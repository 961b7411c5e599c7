"""Inputs of pretrained networks: tensors of backbones and features of images, computed once and shared by all jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from osteo_models.models.pretrained import PretrainedNetwork, build_pretrained
from osteo_models.training.failures import explain_failures, run_tasks
from osteo_models.training.fold import Arrays
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
from osteo_models.training.pretrained_plan import PretrainedWeights, load_pretrained
from osteo_models.training.ray_cluster import Cluster
from osteo_models.training.recipe import Arithmetic
from osteo_models.training.trial import check_device, count_threads

OnChunk = Callable[[PretrainedWeights, int, int], None]  # the backbone, images done, all images

_networks: dict[str, PretrainedNetwork] = {}  # of this worker process: the backbone that it used last


@dataclass(frozen=True)
class BackboneInputs:
    """What the trials of a pretrained network read in addition to, or instead of, the images.

    Attributes:
        features: `Arrays` with features instead of images, for a frozen backbone.
        tensors: Initial weights of a backbone that is trained, unless they are random.
        seconds: Time to compute the features.
    """

    features: ray.ObjectRef | None = None
    tensors: ray.ObjectRef | None = None
    seconds: float = 0.0


class BackboneCache:
    """The inputs of pretrained networks, each made once by the first job that needs it; others wait for it.

    Args:
        cluster: From `open_cluster`.
        arrays: The same as on the cluster.
        folder: Of stored features; with a store of the cluster they are there, too.
        weights_dir: OSTEO_WEIGHTS_DIR.
        on_chunk: Called in the driver before the first chunk of images and after each.
    """

    def __init__(
        self, cluster: Cluster, arrays: Arrays, folder: Path, weights_dir: Path | None, on_chunk: OnChunk
    ) -> None:
        self._cluster, self._arrays, self._folder = cluster, arrays, folder
        self._weights_dir, self._on_chunk = weights_dir, on_chunk
        self._store = cluster.store / "features" if cluster.store else None
        self._inputs: dict[PretrainedWeights, Future[BackboneInputs]] = {}
        self._lock = threading.Lock()

    def prepare(self, job: Job) -> BackboneInputs | None:
        """The inputs of a job; None if it needs none.

        Raises:
            WeightsError: The weights are gone or damaged since the job was planned.
            OsteoError: The extraction failed; raised in every job that waits for it.
        """
        weights = job.pretrained
        if weights is None or (not weights.frozen and weights.weights == "random"):
            return None
        with self._lock:
            first = weights not in self._inputs
            future = self._inputs.setdefault(weights, Future())
        if first:
            try:
                future.set_result(self._make(weights))
            except BaseException as error:  # noqa: BLE001  # raised below, and in every job that waits
                future.set_exception(error)
        return future.result()

    def _make(self, weights: PretrainedWeights) -> BackboneInputs:
        if not weights.frozen:
            return BackboneInputs(tensors=ray.put(load_pretrained(weights, self._weights_dir)))
        features = self._find(weights.features) or self._extract(weights)
        arrays = Arrays(features.values, self._arrays.target, self._arrays.modality)
        return BackboneInputs(features=ray.put(arrays), seconds=features.seconds)

    def _find(self, key: str) -> Features | None:
        features = read_features(self._folder, key)
        if features is None and self._store and self._store.download(feature_files(key), self._folder):
            features = read_features(self._folder, key)
        return features

    def _extract(self, weights: PretrainedWeights) -> Features:
        cluster, count, key = self._cluster, len(self._arrays.images), weights.features
        chunks = split_rows(count)
        missing = list_missing(self._folder, key, chunks)
        inputs = [cluster.arrays, ray.put(load_pretrained(weights, self._weights_dir))]
        task = ray.remote(_extract_chunk).options(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)
        done = count - sum(stop - first for first, stop in missing)
        self._on_chunk(weights, done, count)  # the clock starts

        def store(chunk: Chunk, result: tuple[Any, float]) -> None:
            nonlocal done
            write_chunk(self._folder, key, chunk, *result)
            done += chunk[1] - chunk[0]
            self._on_chunk(weights, done, count)

        settings = (cluster.precision, cluster.cpus, cluster.device)
        errors = run_tasks(lambda chunk: task.remote(weights, inputs, chunk, *settings), missing, store)
        if errors:
            raise explain_failures(errors, len(missing), f"features of {weights.backbone}")
        features = join_chunks(self._folder, key, chunks)
        if self._store:
            for name in feature_files(key):
                self._store.upload(self._folder / name)
        return features


def _extract_chunk(
    weights: PretrainedWeights,
    inputs: list[ray.ObjectRef],
    chunk: Chunk,
    arithmetic: Arithmetic,
    cpus: float,
    device: str,
) -> tuple[Any, float]:
    """Features of a chunk, and the seconds that they took; on a worker."""
    torch.set_num_threads(count_threads(cpus))
    check_device(device)
    if weights.features not in _networks:
        _networks.clear()
        tensors = ray.get(inputs[1])
        network = build_pretrained(torch.Generator(), tensors, backbone=weights.backbone, weights=weights.weights)
        _networks[weights.features] = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    arrays: Arrays = ray.get(inputs[0])
    began = time.perf_counter()
    images: Any = arrays.images[slice(*chunk)]
    values = extract_rows(_networks[weights.features], images, arithmetic=arithmetic, device=device)
    return values, time.perf_counter() - began
