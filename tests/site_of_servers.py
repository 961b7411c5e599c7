"""The servers of the cluster profile, started once for all tests that need them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from osteo_models.core.processes import find_living
from osteo_models.ops.servers import stop_servers

ROOT = Path(__file__).parents[1]
OTHERS = ("MLFLOW_", "PREFECT_", "RAY_", "AWS_", "PG", "OSTEO_")  # settings of whoever runs the tests
SERVERS = {"postgres", "s3", "mlflow", "prefect", "ray-head", "ray-worker-1", "ray-worker-2"}


@dataclass(frozen=True)
class Site:
    """The servers of the cluster profile, started by two commands at the same moment.

    Attributes:
        said: What each of the two commands printed.
        variables: Those that a caller is told to set.
        killed: Names of servers that a test killed for good.
    """

    state: Path
    said: list[str]
    seconds: float
    variables: dict[str, str]
    killed: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.state / "cluster"

    def up(self) -> subprocess.Popen[str]:
        """Start `osteo up --profile cluster`."""
        return start_up(self.state)


def start_up(state: Path) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    code = "from osteo_models.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "up", "--profile", "cluster"],
        cwd=state.parent,
        env={**kept, "OSTEO_STATE_DIR": str(state), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """One set of servers for all tests that need them: it takes a while to start."""
    # Root's PostgreSQL runs as another account, which must pass the folder's parents: those of pytest are closed.
    place = Path(tempfile.mkdtemp(prefix="osteo-site-"))
    state, killed = place / "state", set[str]()
    started = time.monotonic()
    both = [start_up(state), start_up(state)]
    try:
        said = [process.communicate(timeout=400)[0] for process in both]
        seconds = time.monotonic() - started
        assert [process.returncode for process in both] == [0, 0], said
        lines = (state / "cluster" / "env").read_text(encoding="utf-8").splitlines()
        variables = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        yield Site(state, said, seconds, variables, killed)
    finally:
        stopped = stop_servers(state / "cluster")
        shutil.rmtree(place, ignore_errors=True)
    assert sorted(server.name for server in stopped) == sorted(SERVERS - killed)
    assert not any(find_living(server) for server in stopped)
