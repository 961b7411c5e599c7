"""What the running servers of the cluster profile are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from osteo_models.core.processes import Server
from osteo_models.ops.servers import running_servers
from osteo_models.ops.servers.cluster_profile import USER
from tests.site_of_servers import ROOT, Site


@dataclass(frozen=True)
class Running:
    """The running servers, and where their folder is."""

    folder: Path
    servers: dict[str, Server]

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text(encoding="utf-8")

    def url(self, name: str) -> str:
        return self.servers[name].url

    def login(self, name: str) -> tuple[str, str]:
        return USER, self.secret(name)

    def processes(self, prefix: str) -> list[psutil.Process]:
        """Every process of the servers whose names begin so."""
        found = [psutil.Process(server.pid) for name, server in self.servers.items() if name.startswith(prefix)]
        return [process for first in found for process in (first, *first.children(recursive=True))]


@pytest.fixture(scope="module")
def running(site: Site) -> Running:
    return Running(site.folder, {server.name: server for server in running_servers(site.folder)})


@dataclass(frozen=True)
class Place:
    """A route: where and how it is called."""

    kind: str
    methods: tuple[str, ...]
    path: str


def read_routes(running: Running, name: str) -> list[Place]:
    """The routes of a server, told by its own application in the environment of its own process."""
    environment = dict(running.processes(name)[-1].environ()) | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    if name == "mlflow":
        environment["_MLFLOW_SGI_NAME"] = "uvicorn"
    script = Path(__file__).with_name("enumerate_routes.py")
    command = [sys.executable, str(script), name]
    done = subprocess.run(command, env=environment, cwd=running.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    places = {Place(kind, tuple(methods), path) for kind, methods, path in rows}
    if table := os.environ.get("OSTEO_ROUTES_TABLE"):
        lines = sorted(f"{name}\t{','.join(place.methods) or place.kind}\t{place.path}\n" for place in places)
        with Path(table).open("a", encoding="utf-8") as out:
            out.writelines(lines)
    return sorted(places, key=lambda place: (place.path, place.methods))
