"""A store that fails while a version is judged is an error: exit 1, and nothing in the journal."""

from __future__ import annotations

import http.client
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from osteo_models.cli.main import main
from osteo_models.core.errors import StoreError
from osteo_models.core.processes import HOST, find_port
from osteo_models.ops.servers import start_servers, stop_servers
from osteo_models.registry.journal import open_journal
from osteo_models.registry.tracking import open_tracking
from osteo_models.registry.versions import get_version
from tests.conftest import ROOT
from tests.registry.gate_cases import NAME, make_case, register_case

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
RULES = ("files_intact", "metrics_match", "patient_disjoint", "holdout_untouched")
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
FORWARDED = ("content-type", "content-length")


class _Proxy(ThreadingHTTPServer):
    """Passes every request on to a server, but answers some in its own way."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.port, self.fail = port, lambda *_: None
        super().__init__((HOST, 0), _Handler)

    fail: Callable[..., Any]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = self.server.fail(self.command, self.path)
        if what in (404, 500, 503):
            self._answer(what, b"<html>not MLflow</html>")
            return
        upstream = http.client.HTTPConnection(HOST, self.server.port, timeout=60)
        headers = {name: text for name, text in self.headers.items() if name.lower() != "host"}
        try:
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            content = reply.read()
        except OSError:  # the server is gone, and so is this connection
            self.close_connection = True
            return
        finally:
            upstream.close()
        if what == "short":  # less than the store lists, and the answer looks whole
            content = content[: len(content) // 2]
        self._answer(reply.status, content, cut=what == "cut", kind=reply.getheader("Content-Type", ""))

    def _answer(self, status: int, content: bytes, *, cut: bool = False, kind: str = "text/html") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection |= cut

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # named by the base class


class _Site:
    """A project whose store is a real MLflow server behind a proxy."""

    def __init__(self, folder: Path) -> None:
        self.state, self.journal_uri = folder / "state", f"sqlite:///{folder / 'journal.db'}"
        self.port = find_port(25300, ())
        start_servers(self.state, ports={"mlflow": self.port})
        self.proxy = _Proxy(self.port)
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()
        self.url = f"http://{HOST}:{self.proxy.server_address[1]}"
        self.tracking = open_tracking(self.url, folder / "nowhere")
        self.journal = open_journal(self.journal_uri)

    def promote(self) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["promote", NAME])
        return done.exit_code, done.output


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> Iterator[_Site]:
    folder = tmp_path_factory.mktemp("away")
    (folder / "state").mkdir()
    shutil.copy(fresh_store, folder / "state" / "mlflow.db")
    site = _Site(folder)
    yield site
    site.proxy.shutdown()
    site.proxy.server_close()
    stop_servers(site.state)


@pytest.fixture
def site(running: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_job, make_model) -> _Site:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["gate"] = [rule for rule in params["gate"] if rule["rule"] in RULES]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "MLFLOW_TRACKING_URI": running.url,
        "OSTEO_JOURNAL_URI": running.journal_uri,
        "OSTEO_STATE_DIR": str(tmp_path / ".osteo"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, text)
    running.proxy.fail = lambda *_: None
    register_case(running.tracking, make_case(), tmp_path / "case", make_job, make_model)
    return running


def _download(path: str) -> bool:
    return path.startswith(f"{ARTIFACTS}/") and "/evidence/" in path


FAULTS: dict[str, Callable[[str, str], Any]] = {
    "a download fails": lambda method, path: 500 if method == "GET" and _download(path) else None,
    "a file is not found at all": lambda method, path: 404 if method == "GET" and _download(path) else None,
    "a download is cut off": lambda method, path: "cut" if method == "GET" and _download(path) else None,
    "a download is too short": lambda method, path: "short" if method == "GET" and _download(path) else None,
    "one file of all": lambda method, path: 500 if method == "GET" and path.endswith("splits.csv") else None,
    "listing fails": lambda method, path: 503 if path.startswith(f"{ARTIFACTS}?") else None,
    "the model is not described": lambda method, path: 503 if "/mlflow/logged-models/" in path else None,
    "runs are not given out": lambda method, path: 500 if "/mlflow/runs/get" in path else None,
    "a proxy says 404": lambda method, path: 404 if "/mlflow/runs/get" in path else None,
}


def test_a_store_that_fails_while_it_is_asked_gives_no_verdict(site: _Site) -> None:
    before, challenger = site.journal.history(NAME), get_version(site.tracking, f"{NAME}@challenger").version
    for name, fault in FAULTS.items():
        site.proxy.fail = fault
        code, said = site.promote()
        assert (code, "error: " in said) == (1, True), (name, code, said)
        assert site.journal.history(NAME) == before, name
    site.proxy.fail = lambda *_: None
    assert site.promote()[0] == 0
    assert site.journal.state(NAME).champion == challenger
    assert [event.action for event in site.journal.history(NAME)[len(before) :]] == ["promotion"]


def test_a_server_that_is_stopped_while_it_is_asked_gives_no_verdict(site: _Site) -> None:
    before, challenger = site.journal.history(NAME), get_version(site.tracking, f"{NAME}@challenger").version
    stopped = threading.Event()

    def stop(method: str, path: str) -> None:
        if method == "GET" and _download(path) and not stopped.is_set():
            stopped.set()
            stop_servers(site.state)

    site.proxy.fail = stop
    code, said = site.promote()
    assert stopped.is_set()
    assert (code, "error: " in said) == (1, True), (code, said)
    assert site.journal.history(NAME) == before
    start_servers(site.state, ports={"mlflow": site.port})
    assert site.promote()[0] == 0
    assert site.journal.state(NAME).champion == challenger


def test_other_commands_do_not_take_it_for_an_answer_either(site: _Site) -> None:
    version = get_version(site.tracking, f"{NAME}@challenger")
    site.proxy.fail = FAULTS["the model is not described"]
    with pytest.raises(StoreError):
        get_version(site.tracking, f"{NAME}/{version.version}")
    site.proxy.fail = lambda method, path: 503 if "/mlflow/registered-models/" in path else None
    with pytest.raises(StoreError):
        get_version(site.tracking, f"{NAME}@challenger")
    site.proxy.fail = lambda *_: None
    assert get_version(site.tracking, f"{NAME}@challenger") == version


def test_what_was_deleted_is_missing_evidence(site: _Site) -> None:
    version = get_version(site.tracking, f"{NAME}@challenger")
    site.tracking.client.delete_logged_model(version.model_id)
    with pytest.raises(MlflowException):
        site.tracking.client.get_logged_model(version.model_id)
    code, said = site.promote()
    assert code == 3 and "MLflow has lost its model" in said
    assert site.journal.history(NAME)[-1].action == "refusal"
