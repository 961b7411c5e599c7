"""Servers: those that `osteo up` started, those that the environment names, and what Prefect says of its flows."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import urllib.error
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.processes import name_process
from osteo_models.ops.doctor import Project, server_checks, store_checks
from osteo_models.registry.runs import RunningRun
from osteo_models.training import result_store
from tests.ops.doctor.conftest import ask

GONE = f"{name_process().rsplit(':', 2)[0]}:1:12.00"  # the first process did not start then


def note_server(project: Project, url: str, pid: int, name: str = "mlflow") -> None:
    started = {pid: psutil.Process(pid).create_time()} if psutil.pid_exists(pid) else {pid: 1.0}
    row = {"name": name, "url": url, "pid": pid, "started": started, "log": f"{name}.log"}
    (project.settings.state / "servers.json").write_text(json.dumps([row]), encoding="utf-8")


def test_servers_that_were_started(project, listener, silent, monkeypatch) -> None:
    assert ask(server_checks.check_started, project) == []  # none was
    note_server(project, listener.url, os.getpid())
    assert ask(server_checks.check_started, project) == []
    with monkeypatch.context() as patch:
        patch.setattr(server_checks, "ANSWER_SECONDS", 0.1)
        note_server(project, silent, os.getpid())
        (mute,) = ask(server_checks.check_started, project)
    assert str(mute) == f"mlflow server at {silent}: it does not answer; see mlflow.log; `osteo down`, then `osteo up`"
    note_server(project, listener.url, 4_194_305)  # beyond the largest number of a process
    (ended,) = ask(server_checks.check_started, project)
    assert "`osteo up` started it, and it has ended; `osteo up` starts it again" in str(ended)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as started:  # since the check
        note_server(project, listener.url, started.pid)
        ended.fix()
        assert started.poll() is None and ask(server_checks.check_started, project) == []
        started.kill()
    assert ask(server_checks.check_started, project) != []
    ended.fix()
    assert ask(server_checks.check_started, project) == []


@pytest.mark.parametrize(("name", "path"), [("mlflow", "/health"), ("prefect", "/api/health"), ("s3", "/status")])
def test_a_server_that_answers_with_an_error_is_not_well(project, listener, name, path) -> None:
    listener.statuses = {path: 500}
    note_server(project, listener.url, os.getpid(), name)
    (found,) = ask(server_checks.check_started, project)
    assert found.found == f"it answers 500, not 200, at {path}"
    listener.statuses, listener.status = {path: 200}, 403  # only the health path is asked
    assert ask(server_checks.check_started, project) == [] and set(listener.asked) == {path}


def test_a_node_is_not_asked_at_the_address_of_its_head(project) -> None:
    note_server(project, "127.0.0.1:9", os.getpid(), "ray-worker-1")
    assert ask(server_checks.check_started, project) == []  # that its process lives is all that is known of it
    note_server(project, "127.0.0.1:9", os.getpid(), "ray-head")
    (found,) = ask(server_checks.check_started, project)
    assert str(found).startswith("ray-head server at 127.0.0.1:9: it does not answer; see ray-head.log")


def test_servers_that_the_environment_names(project, listener, monkeypatch) -> None:
    assert ask(server_checks.check_named, project) == []
    monkeypatch.setenv("PREFECT_API_URL", listener.url)
    monkeypatch.setenv("RAY_ADDRESS", listener.url.removeprefix("http://"))
    assert ask(server_checks.check_named, project) == []
    for address in ("auto", "local"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert ask(server_checks.check_named, project) == []
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    (found,) = ask(server_checks.check_named, project)
    assert str(found) == "RAY_ADDRESS=127.0.0.1:9: nothing answers there; start that server, or unset RAY_ADDRESS"


def test_a_prefect_server_with_a_password(project, listener, monkeypatch) -> None:
    url = f"{listener.url}/api"
    listener.password = f"Basic {base64.b64encode(b'admin:right').decode()}"
    monkeypatch.setenv("PREFECT_API_URL", url)
    (found,) = ask(server_checks.check_named, project)
    remedy = "set PREFECT_API_AUTH_STRING to that server's USER:PASSWORD"
    assert str(found) == f"PREFECT_API_URL={url}: it asks for credentials, and none are set; {remedy}"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:wrong")
    (found,) = ask(server_checks.check_named, project)
    assert str(found) == f"PREFECT_API_URL={url}: it refuses these credentials; {remedy}"
    monkeypatch.setattr(store_checks, "_ask_flows", lambda *_: pytest.fail("asked without a password that it takes"))
    assert ask(store_checks.check_flows, project) == []
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:right")
    assert ask(server_checks.check_named, project) == []
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_URL", url.replace("//", "//admin:right@"))
    assert ask(server_checks.check_named, project) == []
    listener.status = 500
    (found,) = ask(server_checks.check_named, project)
    assert str(found).startswith(f"PREFECT_API_URL={url}: it answers 500, not 200, at /health; see that server's log")


def test_the_store_of_jobs(project, listener, monkeypatch) -> None:
    assert ask(server_checks.check_stores, project) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", listener.url)
    listener.status = 403  # without a signature
    assert ask(server_checks.check_stores, project) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:word@127.0.0.1:9")
    (found,) = ask(server_checks.check_stores, project)
    assert str(found).startswith("AWS_ENDPOINT_URL=http://127.0.0.1:9: nothing answers there; start that server")

    opened = []
    monkeypatch.setattr(result_store, "open_result_store", opened.append)
    with_store = replace(project, settings=replace(project.settings, jobs_uri="s3://bucket/jobs"))
    assert ask(server_checks.check_stores, with_store) == [] and opened == ["s3://bucket/jobs"]


def test_a_store_of_jobs_that_is_none(project) -> None:
    wrong = replace(project, settings=replace(project.settings, jobs_uri="ftp://host/jobs"))
    with pytest.raises(InputError, match="OSTEO_JOBS_URI: `ftp://host/jobs` is no shared store"):
        ask(server_checks.check_stores, wrong)


def test_what_counts_as_an_answer(listener, monkeypatch) -> None:
    assert server_checks.ask(listener.url) == 200
    assert server_checks.ask(listener.url.removeprefix("http://")) == 200
    for nonsense in ("127.0.0.1:no", "http://[", "", "http://127.0.0.1:99999"):
        assert server_checks.ask(nonsense) == server_checks.SILENT
    # Whom a client trusts is its own setting: all that is known is that something answers.
    distrust = urllib.error.URLError(ssl.SSLCertVerificationError("self-signed certificate"))
    monkeypatch.setattr(server_checks.urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(distrust))
    assert server_checks.ask("https://127.0.0.1:1") == 200


def test_flows(project, listener, monkeypatch) -> None:
    assert ask(store_checks.check_flows, project) == []  # no server is up: nobody is asked
    monkeypatch.setattr(store_checks, "find_prefect", lambda *_: listener.url)
    said = {"lost": [], "living": [name_process()]}
    monkeypatch.setattr(store_checks, "_ask_flows", lambda *_: said)
    monkeypatch.setattr(store_checks, "find_orphans", lambda _: [])
    monkeypatch.setattr(store_checks, "find_running", lambda _: [RunningRun("1", "job", name_process())])
    watched = replace(project, tracking=SimpleNamespace())
    assert ask(store_checks.check_flows, watched) == []
    said |= {"lost": [{"flow": "brave-fox", "state": "Running", "process": GONE}], "living": []}
    lost, unknown = ask(store_checks.check_flows, watched)
    assert str(lost).startswith(f"flow run brave-fox: Prefect says Running, and process {GONE} is gone; `osteo doctor")
    assert f"process {name_process()} works on runs of MLflow, and Prefect knows no running flow" in str(unknown)
    assert f"kill -INT {os.getpid()}" in unknown.remedy


def test_a_server_that_does_not_say_which_flows_run(project, listener, monkeypatch) -> None:
    monkeypatch.setattr(store_checks, "find_prefect", lambda *_: listener.url)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="no JSON"))
    with pytest.raises(StoreError, match="Prefect: its server does not say which flows run; run `osteo down`, then"):
        ask(store_checks.check_flows, project)
