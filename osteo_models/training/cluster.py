"""A connected Ray cluster, its size, and what its workers compute with."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayTaskError

from osteo_models.errors import OsteoError
from osteo_models.terms import Precision
from osteo_models.training.recipe import Arithmetic, resolve_precision
from osteo_models.training.trial import Arrays, choose_device


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster with the images in its object store, once per node.

    Attributes:
        slots: How many trials fit at once.
        precision: What the recipe's precision means on its workers.
        device: Of its workers, `cpu` or `cuda`.
        cpus: Of one trial.
        gpus: Of one trial.
    """

    slots: int
    precision: Arithmetic
    device: str
    arrays: ray.ObjectRef
    cpus: float
    gpus: float


@contextmanager
def open_cluster(
    address: str | None, arrays: Arrays, *, cpus: float, gpus: float, precision: Precision
) -> Iterator[Cluster]:
    """Connect to a cluster, or start a local one, and put the images into its object store.

    Args:
        address: RAY_ADDRESS; None starts a local cluster that ends with this context.
        arrays: Images and targets.
        cpus: Of one trial.
        gpus: Of one trial, fractions allowed.
        precision: `auto` is resolved on a worker, where the training happens.

    Raises:
        OsteoError: The cluster cannot be reached, or cannot hold one trial.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow keeps the curves; no second copy
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error is told once, by whoever runs the job
    # Ray puts sockets below its folder, and their paths must stay under 108 characters.
    local = {"include_dashboard": False, "_temp_dir": str(Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}")}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = f"no Ray cluster ({error})" if address else f"a local Ray cluster did not start ({error})"
        raise OsteoError(found, where="RAY_ADDRESS", remedy="unset RAY_ADDRESS to use this machine") from None
    try:
        slots = _count_slots(cpus, gpus)
        asked = ray.remote(num_cpus=cpus, num_gpus=gpus)(_resolve_here).remote(precision, gpus)
        try:
            arithmetic, device = ray.get(asked)
        except RayTaskError as error:
            raise error.cause from None
        yield Cluster(slots, arithmetic, device, ray.put(arrays), cpus, gpus)
    finally:
        ray.shutdown()


def _count_slots(cpus: float, gpus: float) -> int:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have = ray.cluster_resources()
    # A trial lies on one node, so what is left over on two nodes holds none.
    slots = sum(
        min(int(node.get("CPU", 0) / cpus), int(node.get("GPU", 0) / gpus) if gpus else sys.maxsize) for node in nodes
    )
    if slots < 1:
        raise OsteoError(
            f"the cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs",
            where="experiments.resources",
            allowed=f"at least {cpus:g} CPUs and {gpus:g} GPUs for one trial",
            remedy="lower the resources of a trial in params.yaml",
        )
    return slots


def _resolve_here(precision: Precision, gpus: float) -> tuple[Arithmetic, str]:
    device = choose_device(gpus)
    return resolve_precision(precision, device), device
