"""A Ray cluster of several nodes on one machine: real raylets, each with resources of its own, behind a token."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from ray._raylet import AuthenticationTokenLoader, Config
from ray.cluster_utils import Cluster

STORE_BYTES = 100 << 20


def use_token(path: Path) -> None:
    """Make this process, and the nodes that it starts, use a file's token."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def start_machines(token: Path) -> Iterator[Cluster]:
    """A cluster whose head computes nothing; ends with all its processes."""
    before = dict(os.environ)
    # Sockets lie below it, and their paths must stay under 108 characters.
    place = Path(tempfile.mkdtemp(prefix="osteo-ray-"))
    (place / "ray").mkdir()
    os.environ["RAY_TMPDIR"] = str(place)  # also for the file with the address of the machine's own cluster
    use_token(token)
    settings = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    cluster = Cluster()
    try:
        add_machine(cluster, num_cpus=0, include_dashboard=False, _system_config=settings)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


def add_machine(cluster: Cluster, **resources: Any) -> Any:
    """Another node, whose workers find no usable code of ours but what they are sent."""
    return cluster.add_node(object_store_memory=STORE_BYTES, **resources)


def list_trials(node: Any) -> list[int]:
    """The worker processes of a node that hold a trial."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found: list[int] = []
    for each in raylet.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile, and may be a zombie
            if "TrialRunner" in " ".join(each.cmdline()):
                found.append(each.pid)
    return found
