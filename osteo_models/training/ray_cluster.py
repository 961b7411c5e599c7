"""A connected Ray cluster, its size, and what its workers compute with."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.core.terms import Precision
from osteo_models.training.fold import Arrays
from osteo_models.training.reaper import reap
from osteo_models.training.recipe import Arithmetic, resolve_precision
from osteo_models.training.result_store import ResultStore
from osteo_models.training.trial import check_device

PACKAGE: Final = Path(__file__).parents[1]
# Environment of every worker: glibc keeps freed memory, instead of asking the system for the same pages in each step.
# `make bench` measures it: a step of the traditional CNN takes 20-30 % less, of others up to 10 %; see mallopt(3).
WORKER_ENV: Final = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster with the images in its object store, once per node.

    Attributes:
        slots: How many trials fit at once.
        precision: What the recipe's precision means on its workers.
        device: Of its workers, `cpu` or `cuda`.
        cpus: Of one trial.
        gpus: Of one trial.
        store: For checkpoints and results; None: they are in a folder that every worker reaches.
        shared: Whether it ran before and goes on running, and may grow and shrink meanwhile.
    """

    slots: int
    precision: Arithmetic
    device: str
    arrays: ray.ObjectRef
    cpus: float
    gpus: float
    store: ResultStore | None = None
    shared: bool = False


@contextmanager
def open_cluster(
    address: str | None,
    arrays: Arrays,
    *,
    cpus: float,
    gpus: float,
    precision: Precision,
    store: ResultStore | None = None,
    device: str | None = None,
) -> Iterator[Cluster]:
    """Connect to a cluster, or start a local one, and put the images into its object store.

    A running cluster is sent the code of this process; its workers need the packages alone.

    Args:
        address: RAY_ADDRESS; None starts a local cluster that ends with this context.
        arrays: Images and targets.
        cpus: Of one trial.
        gpus: Of one trial, fractions allowed.
        precision: `auto` is resolved on a worker, where the training happens.
        store: Shared by all machines, for checkpoints and results.
        device: `cpu` trains there whatever `gpus` says, as on a cluster with pretended GPUs; None: where `gpus` says.

    Raises:
        InputError: The address is one of Ray Client.
        OsteoError: The cluster cannot be reached, or cannot hold one trial.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow keeps the curves; no second copy
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # a trial's error is reported once, by the caller of the job
    with _connect(address):
        slots = count_slots(cpus, gpus)
        if slots < 1:
            raise _too_small(cpus, gpus)
        arithmetic, device = _resolve(address, cpus, gpus, precision, device)
        yield Cluster(slots, arithmetic, device, ray.put(arrays), cpus, gpus, store, shared=address is not None)


def share_slots(cluster: Cluster, folds: int, left: int) -> int:
    """How many trials of a job to run at the same time, so that parallel jobs keep the cluster busy.

    A trial's worker process takes seconds to start and is reused for the job's next fold, so few are started. On a
    shared cluster all folds are requested: those without room wait for a machine that joins or a trial that ends.

    Args:
        folds: Of the job.
        left: Folds of all jobs.
    """
    return folds if cluster.shared else min(folds, max(1, math.ceil(folds * cluster.slots / left)))


def count_slots(cpus: float, gpus: float) -> int:
    """How many trials fit at once on the machines that are there now."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A trial runs on one machine, and a fraction of a GPU is on one GPU: the rests of two machines hold no trial.
    return sum(
        min(_fit(node.get("CPU", 0), cpus), _fit(node.get("GPU", 0), gpus) if gpus else sys.maxsize) for node in nodes
    )


def _fit(have: float, each: float) -> int:
    tiny = 1e-6  # 1 / 0.1 and the like
    return int(have + tiny) * int(1 / each + tiny) if each < 1 else int(have / each + tiny)


@contextmanager
def _connect(address: str | None) -> Iterator[None]:
    """Connect this process for as long as the context lasts.

    Raises:
        InputError: The address is one of Ray Client.
        OsteoError: There is no cluster, or it is another one than this process can work with.
    """
    if address and address.startswith("ray://"):
        remedy = "run the command on a machine of the cluster and set RAY_ADDRESS to host:6379 of its head"
        raise InputError(f"`{address}` is an address of Ray Client", where="RAY_ADDRESS", remedy=remedy)
    # Ray puts sockets below its folder, and their paths must stay under 108 characters.
    folder = Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}"
    with nullcontext() if address else reap(folder):
        try:
            _init(address, folder)
            yield
        finally:
            ray.shutdown()


def _init(address: str | None, folder: Path) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            settings |= {"include_dashboard": False, "_temp_dir": str(folder)}
            ray.init("local", runtime_env={"env_vars": WORKER_ENV}, **settings)
            with suppress(OSError):  # Ray makes it readable to all
                (Path.home() / ".ray" / "auth_token").chmod(0o600)
            return
        # Ray's agents log what is sent to a worker; machines have their own keys to the shared store.
        ENV_VARS_TO_PROPAGATE.clear()
        with tempfile.TemporaryDirectory(prefix="osteo-code-") as code:
            shutil.copytree(PACKAGE, Path(code) / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
            # The working directory comes first on a worker's path, before anything that is installed there.
            ray.init(address, runtime_env={"env_vars": WORKER_ENV, "working_dir": code}, **settings)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise _explain(error, address) from None


def _explain(error: Exception, address: str | None) -> OsteoError:
    text = " ".join(str(error).split())
    if address is None:
        return OsteoError(f"a local Ray cluster did not start ({text})", where="RAY_ADDRESS")
    where = f"RAY_ADDRESS {address}"
    if "uthenticat" in f"{text} {error.__cause__}":  # Ray tells it as the cause of another
        remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
        return OsteoError("the cluster refuses the token of this process", where=where, remedy=remedy)
    if "Version mismatch" in text:
        versions = re.findall(r"Ray: (\S+) Python: (\S+)", text)
        remote, local = (f"Ray {ray_version} and Python {python}" for ray_version, python in versions)
        allowed, remedy = f"{local}, as here", "install the same on its machines"
        return OsteoError(f"the cluster runs {remote}", where=where, allowed=allowed, remedy=remedy)
    if isinstance(error, RuntimeEnvSetupError):
        return OsteoError(f"the code could not be sent to the cluster ({text})", where=where)
    return OsteoError(f"no Ray cluster ({text})", where=where, remedy="unset RAY_ADDRESS to use this machine")


def _too_small(cpus: float, gpus: float) -> OsteoError:
    resources = ray.cluster_resources()
    found = f"the cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
    allowed, remedy = (
        f"at least {cpus:g} CPUs and {gpus:g} GPUs for one trial",
        "lower the resources of a trial in params.yaml",
    )
    return OsteoError(found, where="experiments.resources", allowed=allowed, remedy=remedy)


def _resolve(
    address: str | None, cpus: float, gpus: float, precision: Precision, device: str | None
) -> tuple[Arithmetic, str]:
    if address is None and not gpus:
        return _resolve_here(precision, gpus, device)  # a worker would be of this machine, and takes seconds to start
    answer = ray.remote(num_cpus=cpus, num_gpus=gpus)(_resolve_here).remote(precision, gpus, device)
    try:
        return ray.get(answer)
    except RayTaskError as error:
        raise error.cause from None
    except RuntimeEnvSetupError as error:
        raise _explain(error, address) from None


def _resolve_here(precision: Precision, gpus: float, device: str | None) -> tuple[Arithmetic, str]:
    device = check_device(device or ("cuda" if gpus else "cpu"))
    return resolve_precision(precision, device), device
