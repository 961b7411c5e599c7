"""Every route of the cluster profile refuses callers without credentials, as the servers themselves list them."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect
from werkzeug.security import generate_password_hash

from tests.security.conftest import Place, Running, read_routes
from tests.security.remote_calls import OK, UNAUTHENTICATED, UNIMPLEMENTED, call, list_methods
from tests.site_of_servers import Site

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

REFUSED = (401, 403)
# Open to all, and why.
MLFLOW_OPEN = {
    "/health": "what watches a server holds no credentials; it says OK and no more",
    "/api/3.0/mlflow/server-info": "a client reads how to log in before it can",
    "/ajax-api/3.0/mlflow/server-info": "the same, for the page",
    "/static-files/<path:path>": "the page's own script and pictures, no data",
    "/favicon.ico": "a picture",
}
PREFECT_OPEN = {
    "/api/health": "what watches a server holds no credentials; it says true and no more",
    "/api/ready": "the same",
}
WRONG = [None, ("nobody", "wrong"), ("somebody", "")]


@pytest.fixture(scope="module", autouse=True)
def somebody(running: Running, site: Site) -> None:
    """An account of MLflow whose password is quick to check: hundreds of wrong ones are, a slow hash each otherwise."""
    import psycopg

    address = f"{running.url('postgres')}/mlflow?user=mlflow&passfile={site.variables['PGPASSFILE']}"
    kept = generate_password_hash("correct horse battery", "pbkdf2:sha256:1")
    with psycopg.connect(address) as connection:
        text = "INSERT INTO users (username, password_hash, is_admin) VALUES ('somebody', %s, false)"
        connection.execute(text, (kept,))


@pytest.fixture(scope="module")
def mlflow(running: Running) -> list[Place]:
    return read_routes(running, "mlflow")


@pytest.fixture(scope="module")
def prefect(running: Running) -> list[Place]:
    return read_routes(running, "prefect")


def _filled(path: str) -> str:
    path = re.sub(r"\{[^}:]*:uuid\}", "00000000-0000-0000-0000-000000000000", path)
    return re.sub(r"<int:[^>]*>|\{[^}:]*:int\}", "1", re.sub(r"<(?!int:)[^>]*>|\{(?![^}]*:int)[^}]*\}", "x", path))


def _calls(places: list[Place], opened: dict[str, str]) -> Iterator[tuple[str, str]]:
    for place in places:
        if place.kind == "http" and place.path not in opened:
            yield from ((method, _filled(place.path)) for method in place.methods)


@pytest.mark.parametrize("login", WRONG, ids=["none", "stranger", "no password"])
@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_no_route_answers_a_stranger(
    name: str, login: tuple[str, str] | None, running: Running, request: pytest.FixtureRequest
) -> None:
    places, opened = request.getfixturevalue(name), {"mlflow": MLFLOW_OPEN, "prefect": PREFECT_OPEN}[name]
    calls = list(_calls(places, opened))
    assert len(calls) > 150
    with httpx.Client(base_url=running.url(name), auth=login, timeout=60) as client:
        answers = {(method, path): client.request(method, path).status_code for method, path in calls}
    assert {told: status for told, status in answers.items() if status not in REFUSED} == {}


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_the_right_credentials_are_let_in(name: str, running: Running) -> None:
    with httpx.Client(base_url=running.url(name), auth=running.login(name), timeout=60) as client:
        assert client.get("/").status_code == 200
        path = "/api/2.0/mlflow/experiments/get?experiment_id=0" if name == "mlflow" else "/api/admin/version"
        assert client.get(path).status_code == 200
        assert client.get(path, auth=("admin", "")).status_code == 401
        if name == "mlflow":  # the account with which wrong passwords are tried is a real one
            assert client.get(path, auth=("somebody", "correct horse battery")).status_code in (200, 403)
        wrong = client.get(path, auth=("admin", running.secret(name)[:-1] + "x"))
        assert wrong.status_code == 401


def test_what_is_open_is_there_and_tells_no_secret(running: Running, mlflow: list[Place], prefect: list[Place]) -> None:
    served = {place.path for place in mlflow}
    assert {path for path in MLFLOW_OPEN if path not in served} <= {"/favicon.ico", "/static-files/<path:path>"}
    for name, opened in (("mlflow", MLFLOW_OPEN), ("prefect", PREFECT_OPEN)):
        for path in opened:
            answer = httpx.get(running.url(name) + _filled(path), timeout=60)
            assert answer.status_code in (200, 404), path
            assert not [value for value in _secrets(running) if value in answer.text], path
    assert {"/api/health"} <= {place.path for place in prefect}


@pytest.mark.parametrize("host", ["evil.example", "10.evil.example", "192.168.evil.example", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_a_foreign_host_is_refused_even_with_credentials(
    name: str, host: str, running: Running, request: pytest.FixtureRequest
) -> None:
    calls = [path for method, path in _calls(request.getfixturevalue(name), {}) if method == "GET"]
    with httpx.Client(base_url=running.url(name), auth=running.login(name), timeout=60) as client:
        for path in calls[:40] if host != "evil.example" else calls:
            status = client.get(path, headers={"Host": host}).status_code
            assert status == 400, f"{path}: {status}"


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_a_foreign_page_changes_and_reads_nothing(name: str, running: Running, request: pytest.FixtureRequest) -> None:
    calls = list(_calls(request.getfixturevalue(name), {}))
    with httpx.Client(base_url=running.url(name), auth=running.login(name), timeout=60) as client:
        for origin in ("http://evil.example", "http://127.0.0.1:1"):
            told = {call: client.request(*call, headers={"Origin": origin}).status_code for call in calls}
            assert {call: status for call, status in told.items() if status != 403} == {}


def test_prefects_websockets_refuse_strangers(running: Running, prefect: list[Place]) -> None:
    sockets = [_filled(place.path) for place in prefect if place.kind == "websocket"]
    assert len(sockets) >= 5
    base, token = running.url("prefect").replace("http", "ws"), ":".join(running.login("prefect"))
    for path in sockets:
        for said in ({}, {"token": ""}, {"token": "admin:wrong"}, {"token": None}):
            assert _greet(base + path, said) == "refused", (path, said)
        assert _greet(base + path, {"token": token}) == "auth_success", path
        assert _greet(base + path, {"token": token}, origin="http://evil.example") == "refused", path
        with pytest.raises((InvalidHandshake, ConnectionClosed)), connect(base + path) as socket:  # without handshake
            socket.recv(timeout=10)


def _greet(url: str, said: dict, origin: str | None = None) -> str:
    try:
        with connect(url, subprotocols=["prefect"], origin=origin, open_timeout=30) as socket:  # type: ignore[arg-type]
            socket.send(json.dumps({"type": "auth", **said}))
            return json.loads(socket.recv(timeout=30))["type"]
    except (ConnectionClosed, InvalidHandshake):
        return "refused"


def _ray_ports(running: Running) -> dict[tuple[str, int], psutil.Process]:
    found = {}
    for process in running.processes("ray"):
        for link in process.net_connections("inet"):
            if link.status == psutil.CONN_LISTEN:
                host = "127.0.0.1" if link.laddr.ip in ("::", "0.0.0.0") else link.laddr.ip
                found[host, link.laddr.port] = process
    return found


def _methods(process: psutil.Process) -> set[str]:
    """The methods that a server's program knows, from the program itself, beside those that Ray describes."""
    program = Path(process.exe())
    if program.name not in ("gcs_server", "raylet"):
        return set(list_methods())
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        named = {found.decode() for found in re.findall(rb"/ray\.rpc\.[A-Za-z0-9_.]+/[A-Za-z0-9_]+", image)}
    return named | set(list_methods())


SYNC = "/ray.rpc.syncer.RaySyncer/StartSync"
HTTP_PATHS = (
    "/",
    "/metrics",
    "/get_or_create_runtime_env",
    "/delete_runtime_env_if_possible",
    "/get_runtime_envs_info",
)


@pytest.mark.parametrize("token", ["", "0" * 48], ids=["none", "wrong"])
def test_no_method_of_ray_answers_a_stranger(running: Running, token: str, record_property) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    refused: dict[str, int] = {}
    for (host, port), process in _ray_ports(running).items():
        spoken, *_ = call(host, port, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", headers)
        if spoken is None:
            for path in HTTP_PATHS:
                for method in ("GET", "POST"):
                    answer = httpx.request(method, f"http://{host}:{port}{path}", headers=headers, timeout=30)
                    assert answer.status_code in REFUSED, (process.cmdline()[:3], port, method, path)
            refused[f"{process.name()}:{port}"] = len(HTTP_PATHS) * 2
            continue
        # Without the name of a node this one ends the server before it looks at the token: see docs/security.md.
        answers = {method: call(host, port, method, headers)[0] for method in _methods(process) - {SYNC}}
        answers[SYNC] = call(host, port, SYNC, headers | {"node_id": "0" * 56})[0]
        assert {told: s for told, s in answers.items() if s not in (UNAUTHENTICATED, UNIMPLEMENTED)} == {}
        refused[f"{process.name()}:{port}"] = list(answers.values()).count(UNAUTHENTICATED)
    record_property("refused", refused)
    print(refused)  # noqa: T201
    assert len(refused) >= 5 and all(refused.values())


def test_ray_answers_the_token(running: Running) -> None:
    head = ("127.0.0.1", int(running.url("ray-head").rpartition(":")[2]))
    headers = {"authorization": f"Bearer {running.secret('ray')}"}
    assert call(*head, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", headers)[0] == OK


def _secrets(running: Running) -> set[str]:
    kept = [
        path for path in (running.folder / "secrets").iterdir() if path.name not in ("pgpass", "mlflow.ini", "s3.json")
    ]
    return {path.read_text(encoding="utf-8") for path in kept}


def test_secrets_lie_in_files_of_their_owner_alone(running: Running) -> None:
    assert len(_secrets(running)) >= 12
    for path in (*(running.folder / "secrets").iterdir(), running.folder / "env"):
        assert path.stat().st_mode & 0o777 == 0o600, path.name
    assert (running.folder / "secrets").stat().st_mode & 0o777 == 0o700


def test_no_secret_stands_in_a_command_line_or_a_log(running: Running) -> None:
    values = _secrets(running)
    lines = {process.pid: " ".join(process.cmdline()) for process in running.processes("")}
    assert len(lines) > 10
    assert [pid for pid, line in lines.items() if any(value in line for value in values)] == []
    session = {Path(found) for line in lines.values() for found in re.findall(r"--log_dir=(\S+)", line)}
    logs = [path for folder in (running.folder / "logs", *session) for path in folder.rglob("*") if path.is_file()]
    assert len(logs) > 10
    told = [path.name for path in logs if any(value.encode() in path.read_bytes() for value in values)]
    assert told == []
