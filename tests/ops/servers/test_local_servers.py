"""The servers start, are found again, and are stopped as a whole; nobody else's process is ever touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from osteo_models.core.errors import StoreError
from osteo_models.core.processes import Server
from osteo_models.ops.servers import find_prefect, local_servers, running_servers, start_servers, stop_servers
from osteo_models.ops.servers.launch import Service, answers_at, launch

# A server with a process of its own below it, as the real ones have.
STAND_IN = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), type("Handler", (http.server.BaseHTTPRequestHandler,), {
    "do_GET": lambda self: (self.send_response(200), self.end_headers()), "log_message": lambda *_: None,
})).serve_forever()
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_servers, "_mlflow", lambda _, port: service("mlflow", STAND_IN, port))
    monkeypatch.setattr(local_servers, "_prefect", lambda _, port: service("prefect", STAND_IN, port))


def service(name: str, code: str, port: int, **given: Any) -> Service:
    """A server that runs some code, given its port."""
    command = [sys.executable, "-c", code, str(port)]
    return Service(name, command, dict(os.environ), f"http://127.0.0.1:{port}", answers_at(""), **given)


@pytest.fixture
def state(tmp_path: Path):
    yield tmp_path / "state"
    stop_servers(tmp_path / "state")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _group(pid: int) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _pgid(process.pid) == pid]


def _pgid(pid: int) -> int:
    try:
        return os.getpgid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else 0
    except (ProcessLookupError, psutil.NoSuchProcess):
        return 0


def test_the_real_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere.else")
    monkeypatch.setenv("PREFECT_API_URL", "http://somewhere.else/api")
    started = start_servers(state, ports={"mlflow": 5600, "prefect": 4800})
    try:
        mlflow, prefect = started
        assert (mlflow.name, prefect.name) == ("mlflow", "prefect")
        assert (state / "mlflow.db").is_file()
        assert (state / "prefect" / "prefect.db").is_file()
        with urllib.request.urlopen(f"{mlflow.url}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0") as reply:
            place = json.load(reply)["experiment"]["artifact_location"]
        assert place == "mlflow-artifacts:/0"
        with urllib.request.urlopen(f"{mlflow.url}/ajax-api/3.0/mlflow/ui-telemetry") as reply:
            assert json.load(reply)["disable_ui_telemetry"] is True
        with urllib.request.urlopen(f"{prefect.url}/ui-settings") as reply:
            assert json.load(reply)["api_url"] == f"{prefect.url}/api"
        with urllib.request.urlopen(f"{prefect.url}/api/admin/settings") as reply:
            assert json.load(reply)["server"]["analytics_enabled"] is False
        assert start_servers(state) == started
        assert all(Path(server.log).stat().st_size for server in started)
    finally:
        stopped = stop_servers(state)
    assert [server.name for server in stopped] == ["mlflow", "prefect"]
    assert not any(_group(server.pid) for server in stopped)


def test_started_found_again_and_stopped(stand_in, state: Path, port: int) -> None:
    first = start_servers(state, ports={"mlflow": port, "prefect": port})
    assert first[0].url == f"http://127.0.0.1:{port}"
    assert first[1].url != first[0].url  # the preferred port was taken
    assert start_servers(state, ports={"mlflow": port, "prefect": port}) == first
    assert running_servers(state) == first
    assert all(len(server.started) == len(_group(server.pid)) == 2 for server in first)
    assert stop_servers(state) == first
    assert running_servers(state) == []
    assert not any(_group(server.pid) for server in first)
    assert stop_servers(state) == []


def test_a_port_in_use_is_passed_over(stand_in, state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        used = taken.getsockname()[1]
        (server,) = start_servers(state, ports={"mlflow": used})
    assert used < int(server.url.rpartition(":")[2]) <= used + 100


def test_what_is_left_of_a_killed_server_is_stopped(stand_in, state: Path, port: int) -> None:
    (server,) = start_servers(state, ports={"mlflow": port})
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
    assert running_servers(state) == []
    (child,) = _group(server.pid)
    assert stop_servers(state) == [server]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_killed_server_is_started_again(stand_in, state: Path, port: int) -> None:
    (server,) = start_servers(state, ports={"mlflow": port})
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
    (again,) = start_servers(state, ports={"mlflow": port})
    assert again.pid != server.pid
    assert running_servers(state) == [again]
    assert _group(server.pid) == []


def test_a_process_number_given_to_another_is_not_touched(state: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        state.mkdir()
        row = {"name": "mlflow", "url": "http://127.0.0.1:1", "pid": stranger.pid, "log": "log"}
        started = psutil.Process(stranger.pid).create_time() - 100
        (state / "servers.json").write_text(json.dumps([row | {"started": {str(stranger.pid): started}}]))
        assert running_servers(state) == []
        assert stop_servers(state) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_ends_shows_its_log(monkeypatch: pytest.MonkeyPatch, state: Path, port: int) -> None:
    fails = "import sys; print('cannot import name min_items'); sys.exit(3)"
    monkeypatch.setattr(local_servers, "_prefect", lambda _, port: service("prefect", fails, port))
    with pytest.raises(StoreError) as caught:
        start_servers(state, ports={"prefect": port})
    assert str(caught.value).startswith("prefect server: ended while starting; run `osteo down` and `osteo up` again")
    assert str(caught.value).endswith("prefect.log:\ncannot import name min_items")
    assert running_servers(state) == []


def test_a_server_that_never_answers_takes_its_companion_with_it(
    stand_in, monkeypatch: pytest.MonkeyPatch, state: Path, port: int
) -> None:
    sleeps = "import time; time.sleep(600)"
    monkeypatch.setattr(local_servers, "_prefect", lambda _, port: service("prefect", sleeps, port))
    with pytest.raises(StoreError, match="prefect server: does not answer in time"):
        start_servers(state, ports={"mlflow": port, "prefect": port}, timeout_seconds=1.5)
    assert json.loads((state / "servers.json").read_text()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}")


def test_a_damaged_list_of_servers(state: Path) -> None:
    state.mkdir()
    for content in ("{", '[{"name": "mlflow"}]', '{"a": 1}'):
        (state / "servers.json").write_text(content)
        with pytest.raises(StoreError, match=r"servers\.json: not a list of servers; end the servers by hand"):
            running_servers(state)
    (state / "servers.json").unlink()


def test_prefect_is_found_unless_the_caller_chose_one(stand_in, state: Path, port: int) -> None:
    assert find_prefect(state, {}) is None
    (server,) = start_servers(state, ports={"prefect": port})
    environ: dict[str, str] = {}
    assert find_prefect(state, environ) == environ["PREFECT_API_URL"] == f"{server.url}/api"
    assert find_prefect(state, {"PREFECT_API_URL": "http://chosen"}) == "http://chosen"


def test_a_killed_server_keeps_its_port_and_its_followers_start_again_with_it(state: Path, port: int) -> None:
    def up() -> list[Server]:
        def step(ports) -> list[Service]:
            return [
                service("head", STAND_IN, ports["head"]),
                service("worker", STAND_IN, ports["worker"], follows="head"),
            ]

        found = launch(state, {"head": port, "worker": port, "other": port}, [step])
        return [found["head"], found["worker"]]

    first = up()
    assert up() == first
    os.kill(first[0].pid, signal.SIGKILL)
    os.waitpid(first[0].pid, 0)
    second = up()
    assert [server.url for server in second] == [server.url for server in first]
    assert not {server.pid for server in first} & {server.pid for server in second}
    assert all(_group(server.pid) == [] for server in first)


def test_steps_follow_each_other_and_a_later_failure_stops_the_earlier(state: Path, port: int) -> None:
    asked: list[str] = []

    def first(ports) -> list[Service]:
        return [service("first", STAND_IN, ports["first"], prepare=lambda: asked.append("prepared"))]

    def second(ports) -> list[Service]:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['first']}") as reply:
            asked.append(str(reply.status))
        raise StoreError("no second step")

    with pytest.raises(StoreError, match="no second step"):
        launch(state, {"first": port}, [first, second])
    assert asked == ["prepared", "200"]
    assert running_servers(state) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}")


def test_a_server_is_asked_to_end_by_the_signal_that_it_takes_as_a_wish(state: Path, port: int, tmp_path: Path) -> None:
    note = tmp_path / "note"
    leave = f"lambda *_: sys.exit(open({str(note)!r}, 'w').write('asked'))"
    code = f"import signal, sys\nsignal.signal(signal.SIGINT, {leave})"
    launch(state, {"one": port}, [lambda ports: [service("one", code + STAND_IN, port, stop_signal=signal.SIGINT)]])
    stop_servers(state)
    assert note.read_text() == "asked"
