"""The servers that `osteo up` started, and those that the environment names: do they answer?"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.servers import running_servers, stop_servers

HEALTH: Final = {"mlflow": "/health", "prefect": "/api/health"}
ANSWER_SECONDS: Final = 2.0


def check_started(project: Project) -> Iterator[Ailment]:
    """Servers of servers.json that have ended, or do not answer."""
    state = project.settings.state
    for folder in (path.parent for path in [state / "servers.json", *state.glob("*/servers.json")] if path.is_file()):
        running = {server.name: server for server in running_servers(folder)}
        for name in _read_names(folder):
            if name not in running:
                found = "`osteo up` started it, and it has ended"
                forget = None if running else lambda folder=folder: _forget(folder)
                yield Ailment(f"{name} server", found, "`osteo up` starts it again, `osteo down` forgets it", forget)
            elif not answers(running[name].url + HEALTH.get(name, "")):
                where = f"{name} server at {running[name].url}"
                yield Ailment(where, "it does not answer", f"see {running[name].log}; `osteo down`, then `osteo up`")


def check_named(_: Project) -> Iterator[Ailment]:
    """Servers that the environment names; MLflow's was asked when the store was opened."""
    for name, path in (("PREFECT_API_URL", "/health"), ("RAY_ADDRESS", "")):
        address = os.environ.get(name, "")
        if address and address != "auto" and not answers(address + path):
            yield Ailment(f"{name}={address}", "nothing answers there", f"start that server, or unset {name}")


def answers(url: str) -> bool:
    """Whether anything answers at an address; to HTTP with any status, else by a connection."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        if parts.scheme in ("http", "https"):
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
                return True
        with socket.create_connection((parts.hostname or "", parts.port or 0), ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _read_names(folder: Path) -> list[str]:
    return [row["name"] for row in json.loads((folder / "servers.json").read_text(encoding="utf-8"))]


def _forget(folder: Path) -> str:
    stop_servers(folder)
    return "forgotten; `osteo up` starts it again"


CHECKS: Final[tuple[Check, ...]] = (check_started, check_named)
