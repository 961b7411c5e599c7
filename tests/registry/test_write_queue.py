"""Writes wait for a server that is away, are done in order, and tell what they could not do."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from osteo_models.core.errors import StoreError
from osteo_models.registry.store import is_away
from osteo_models.registry.write_queue import Writer, open_writer


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """A server that answers, on a port of its own or on one that another had."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def port() -> int:
    """A port where nothing answers any more."""
    with listening() as free:
        return free


def of_server(port: int) -> SimpleNamespace:
    return SimpleNamespace(uri=f"http://127.0.0.1:{port}")


def refuse() -> None:
    raise StoreError("refused", where="store")


def test_away_is_a_server_that_does_not_answer(port) -> None:
    assert is_away(f"http://127.0.0.1:{port}")
    assert not is_away("sqlite:///nowhere.db")
    with listening(port):
        assert not is_away(f"http://127.0.0.1:{port}")


def test_writes_are_done_in_order_and_give_their_results() -> None:
    done = []
    with open_writer(SimpleNamespace(uri="sqlite:///x")) as writer:
        first = writer.submit(lambda: done.append(1) or 7)
        for number in range(2, 30):
            writer.submit(done.append, number)
    assert done == list(range(1, 30))
    assert first.result() == 7


def test_a_server_that_comes_back_gets_every_write(port) -> None:
    tried, done = [], []

    def write(number: int) -> None:
        tried.append(number)
        if is_away(f"http://127.0.0.1:{port}"):
            raise StoreError("no answer")
        done.append(number)

    writer = Writer(of_server(port))
    for number in range(3):
        writer.submit(write, number)
    while not tried:
        time.sleep(0.01)
    assert done == []
    with listening(port):
        writer.finish()
    writer.stop()
    assert done == [0, 1, 2] and tried[0] == 0


@pytest.mark.timeout(60)
def test_a_server_that_stays_away_is_told_with_what_to_do(port, caplog) -> None:
    patience = 3.0
    writer = Writer(of_server(port), patience_seconds=patience)
    writer.submit(refuse)
    begun = time.monotonic()
    expected = "the MLflow server does not answer; every result is kept: once the server is up, the same command writes"
    with pytest.raises(StoreError, match=expected):
        writer.finish()
    assert time.monotonic() - begun > patience
    writer._patience = 1e9
    with pytest.raises(StoreError, match=expected):  # it does not wait a second time
        writer.finish()
    writer.stop()
    assert caplog.messages == [f"http://127.0.0.1:{port}: the MLflow server does not answer; the work goes on"]


def test_what_the_store_refuses_is_tried_twice_and_told() -> None:
    tried = []

    def write() -> None:
        tried.append(1)
        refuse()

    with pytest.raises(StoreError, match="store: refused"), open_writer(SimpleNamespace(uri="sqlite:///x")) as writer:
        writer.submit(write)
    assert len(tried) == 2


def test_an_error_of_the_work_is_not_hidden_and_what_was_queued_is_written() -> None:
    done = []
    with pytest.raises(ValueError, match="work"), open_writer(SimpleNamespace(uri="sqlite:///x")) as writer:
        writer.submit(done.append, 1)
        writer.submit(refuse)
        raise ValueError("work")
    assert done == [1]
