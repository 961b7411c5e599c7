"""A Ray cluster of several nodes on this machine: a head that computes nothing, and workers."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from osteo_models.core.processes import Server
from osteo_models.ops.servers.launch import Service, child_environment, python_module

HEAD: Final = "ray-head"
STORE_BYTES: Final = 400_000_000  # of a node's object store: the images, once for each node
# Ray takes 127.0.0.1 for a slip and uses the machine's outer address. Every node has a loopback address of its own, as
# machines do, the head this one. (Its gRPC ports listen everywhere all the same: the token guards them.)
HEAD_ADDRESS: Final = "127.0.0.2"
STARTED: Final = "Ray runtime started."


def session_folder(folder: Path) -> Path:
    """Where Ray keeps sockets and logs; their paths must stay under 108 characters, so not in the state folder."""
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}-{digest}"


def client_environment(port: int, token: Path) -> dict[str, str]:
    """What a driver needs to reach the cluster."""
    return {
        "RAY_ADDRESS": f"{HEAD_ADDRESS}:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def head(folder: Path, port: int, token: Path) -> Service:
    """The node that keeps the cluster's state. What an earlier head left is of no use to it, and goes."""
    place = session_folder(folder)
    arguments = ["--head", "--port", str(port), "--num-cpus", "0", "--num-gpus", "0"]
    # Nothing scales here, and the monitor that would tells its figures to whoever asks.
    arguments += ["--include-dashboard", "false", "--no-monitor"]
    node = _node(HEAD, arguments, HEAD_ADDRESS, place, port, token)
    return replace(node, prepare=partial(_clear, place))


def worker(folder: Path, number: int, workers: int, port: int, token: Path) -> Service:
    """A node with its share of this machine's processors; the first one has all its GPUs."""
    cpus = max(1, (os.cpu_count() or 1) // workers)
    address = f"127.0.0.{2 + number}"
    arguments = ["--address", f"{HEAD_ADDRESS}:{port}", "--num-cpus", str(cpus)]
    arguments += [] if number == 1 else ["--num-gpus", "0"]
    return _node(f"ray-worker-{number}", arguments, address, session_folder(folder), port, token)


def _node(name: str, arguments: list[str], address: str, place: Path, port: int, token: Path) -> Service:
    environment = child_environment("RAY_") | client_environment(port, token)
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # who stops the servers waits for no trial
    del environment["RAY_ADDRESS"]
    command = python_module("ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *arguments)
    command += ["--node-ip-address", address, "--node-name", name, "--object-store-memory", str(STORE_BYTES)]
    command += ["--min-worker-port", "0", "--max-worker-port", "0"]
    # Nodes that start in one folder at the same moment would give their sockets the same names.
    command += ["--temp-dir", str(place / name.removeprefix("ray-"))]
    follows = None if name == HEAD else HEAD
    return Service(name, command, environment, f"{HEAD_ADDRESS}:{port}", _has_started, follows=follows)


def _clear(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)  # refused where it belongs to another user


def _has_started(server: Server) -> bool:
    """Ray itself says when a node has joined; asking it over the network would take a whole Ray."""
    return STARTED in Path(server.log).read_text(encoding="utf-8", errors="replace")
