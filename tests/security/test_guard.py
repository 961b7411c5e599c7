"""The guard: who is let in, by which host, from which page. MLflow and Prefect behind it are in test_routes."""

from __future__ import annotations

import base64
import warnings

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from osteo_models.core.errors import InputError
from osteo_models.core.http_guard import HEALTH, guard
from pipelines.server import create_app

with warnings.catch_warnings():  # its own notice of a coming change
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

SECRET = "admin:correct-horse"
HOSTS = ("127.0.0.1", "localhost")


async def _page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("inside")


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


def _client(credentials: str | None) -> TestClient:
    app = Starlette(
        routes=[WebSocketRoute("/api/events/out", _talk), Route("/{path:path}", _page, methods=["GET", "POST"])]
    )
    return TestClient(guard(app, HOSTS, credentials), base_url="http://127.0.0.1:4200")


@pytest.fixture(scope="module")
def client() -> TestClient:
    return _client(SECRET)


def _basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    "path", ["/", "/api/flows/filter", "/ui-settings", "/api/health/", "/api/healthy", "//api/health"]
)
@pytest.mark.parametrize(
    "headers",
    [{}, _basic("admin:wrong"), _basic(""), {"Authorization": "Basic ///"}, {"Authorization": f"Bearer {SECRET}"},
     {"Authorization": SECRET}, _basic(SECRET + "x"), {"Authorization": "Basic " + "ä"}],
)  # fmt: skip
def test_strangers_are_refused(client: TestClient, path: str, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client.get(path, headers=raw)
    assert (answer.status_code, answer.text) == (401, "credentials are needed")
    assert answer.headers["www-authenticate"] == 'Basic realm="osteo"'


def test_those_who_know_are_let_in(client: TestClient) -> None:
    assert client.get("/", headers=_basic(SECRET)).text == "inside"
    assert client.post("/api/flows/", headers=_basic(SECRET)).text == "inside"


@pytest.mark.parametrize("path", HEALTH)
def test_health_is_open_to_all_but_not_to_foreign_pages(client: TestClient, path: str) -> None:
    assert client.get(path).text == "inside"
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
    assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4200", ""])
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host, **_basic(SECRET)}).status_code == 400


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1:4201",
        "http://localhost",
        "null",
        "file://",
        "http://",
        "http://[::1",
        "http://localhost:no",
    ],
)
def test_a_foreign_page_is_refused_even_with_credentials(client: TestClient, origin: str) -> None:
    answer = client.get("/", headers={"Origin": origin, **_basic(SECRET)})
    assert (answer.status_code, answer.text) == (403, "foreign origin")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_foreign_page_embeds_is_refused_and_its_links_are_not(client: TestClient, site: str) -> None:
    asked = {"Sec-Fetch-Site": site, **_basic(SECRET)}
    assert client.get("/picture", headers={"Sec-Fetch-Mode": "no-cors", **asked}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Mode": "navigate", **asked}).text == "inside"


def test_the_servers_own_page_is_not_foreign(client: TestClient) -> None:
    assert client.get("/", headers={"Origin": "http://localhost:4200", **_basic(SECRET)}).text == "inside"
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", **_basic(SECRET)}
    assert client.get("/picture", headers=own).text == "inside"


def test_a_server_that_asks_for_credentials_itself_gets_hosts_and_pages_checked() -> None:
    client = _client(None)
    assert client.get("/").text == "inside"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_websocket_of_a_foreign_page_is_refused(client: TestClient) -> None:
    with client.websocket_connect("ws://127.0.0.1:4200/api/events/out") as socket:
        assert socket.receive_text() == "inside"
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with (
            pytest.raises(WebSocketDenialResponse),
            client.websocket_connect("ws://127.0.0.1:4200/api/events/out", headers=headers),
        ):
            pass


def test_it_does_not_start_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    with pytest.raises(
        InputError, match=r"^PREFECT_SERVER_API_AUTH_STRING: not set; allowed: USER:PASSWORD; set it in"
    ):
        create_app()
