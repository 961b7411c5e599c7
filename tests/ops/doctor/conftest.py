"""A project in which nothing is wrong, and servers that answer what a test says."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from osteo_models.core.params import parse_params
from osteo_models.core.settings import load_settings
from osteo_models.ops.doctor import Problem, Project
from osteo_models.ops.doctor.problem import Check
from tests.conftest import ROOT

NAMED = (
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN_PATH",
    "PGPASSFILE",
    "AWS_ENDPOINT_URL",
    "OSTEO_JOBS_URI",
    "OSTEO_STATE_DIR",
)


def ask(check: Check, project: Project) -> list[Problem]:
    return list(check(project))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in NAMED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OSTEO_KEY_FILE", str(tmp_path / "keys" / "key"))
    for name in ("data", ".osteo", "home"):
        (tmp_path / name).mkdir()
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    params = parse_params(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    return Project(load_settings(tmp_path), params, None, None)


class Listener:
    """An HTTP server.

    Attributes:
        status: What it answers; at a path of `statuses` what stands there.
        password: What it asks for at all paths but /health.
        asked: The paths that it was asked for.
    """

    def __init__(self) -> None:
        self.status, self.statuses = 200, dict[str, int]()
        self.password, self.asked = "", list[str]()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                status = owner.statuses.get(self.path, owner.status)
                if owner.password and "health" not in self.path:
                    status = status if self.headers["Authorization"] == owner.password else 401
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    with made.server:
        thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and answers nobody."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
