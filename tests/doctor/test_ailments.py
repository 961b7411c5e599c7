"""Every check of `osteo doctor`: a healthy case, which it says nothing of, and a sick one, with its remedy."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from osteo_models.doctor import Project, leftovers, machine, servers, versions, work
from osteo_models.errors import StoreError
from osteo_models.params import parse_params
from osteo_models.processes import name_process
from osteo_models.registry.orphans import Orphan
from osteo_models.settings import load_settings
from tests.conftest import ROOT

GONE = f"{name_process().rsplit(':', 2)[0]}:1:12.00"  # the first process did not start then


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which nothing is wrong."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "RAY_ADDRESS", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OSTEO_KEY_FILE", str(tmp_path / "keys" / "key"))
    (tmp_path / "data").mkdir()
    (tmp_path / ".osteo").mkdir()
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    params = parse_params(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    return Project(load_settings(tmp_path), params, None, None)


def ask(check, project: Project) -> list:
    return list(check(project))


@pytest.fixture
def listener() -> Iterator[str]:
    """A server that answers every address."""
    handler = type("Handler", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and answers nobody."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def note_server(project: Project, url: str, pid: int) -> None:
    started = {pid: psutil.Process(pid).create_time()} if psutil.pid_exists(pid) else {pid: 1.0}
    row = {"name": "mlflow", "url": url, "pid": pid, "started": started, "log": "mlflow.log"}
    (project.settings.state / "servers.json").write_text(json.dumps([row]), encoding="utf-8")


def test_servers_that_were_started(project, listener, silent, monkeypatch) -> None:
    assert ask(servers.check_started, project) == []  # none was
    note_server(project, listener, os.getpid())
    assert ask(servers.check_started, project) == []
    monkeypatch.setattr(servers, "ANSWER_SECONDS", 0.1)
    note_server(project, silent, os.getpid())
    (mute,) = ask(servers.check_started, project)
    assert str(mute) == f"mlflow server at {silent}: it does not answer; see mlflow.log; `osteo down`, then `osteo up`"
    note_server(project, listener, 4_194_305)  # beyond the largest number of a process
    (ended,) = ask(servers.check_started, project)
    assert "`osteo up` started it, and it has ended; `osteo up` starts it again" in str(ended)
    ended.mend()
    assert ask(servers.check_started, project) == []


def test_servers_that_the_environment_names(project, listener, monkeypatch) -> None:
    assert ask(servers.check_named, project) == []
    monkeypatch.setenv("PREFECT_API_URL", listener)
    monkeypatch.setenv("RAY_ADDRESS", listener.removeprefix("http://"))
    assert ask(servers.check_named, project) == []
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    (found,) = ask(servers.check_named, project)
    assert str(found) == "RAY_ADDRESS=127.0.0.1:9: nothing answers there; start that server, or unset RAY_ADDRESS"


def test_python(project) -> None:
    assert ask(versions.check_python, project) == []
    path = project.settings.root / "pyproject.toml"
    path.write_text(path.read_text().replace('requires-python = ">=3.11', 'requires-python = ">=3.99'))
    (found,) = ask(versions.check_python, project)
    assert "and pyproject.toml asks for >=3.99,<3.13; run `make setup`" in str(found)


def test_packages(project) -> None:
    (project.settings.root / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2"]\n')
    assert ask(versions.check_packages, project) == []
    given = '[project]\ndependencies = ["numpy<1", "click", "no-such-package-here"]\n'
    (project.settings.root / "pyproject.toml").write_text(given)
    (found,) = ask(versions.check_packages, project)
    assert found.found.startswith("not what pyproject.toml asks for: numpy 2")
    assert "no-such-package-here is missing (any)" in found.found and "click" not in found.found


def test_lock(project) -> None:
    path = project.settings.root / "requirements.lock"
    own = f"numpy=={version('numpy')}\ntorch=={version('torch').partition('+')[0]}\n"
    path.write_text(own)
    assert ask(versions.check_lock, project) == []
    path.write_text(f"{own}click==0.1\n")
    (found,) = ask(versions.check_lock, project)
    assert found.found == f"1 of 3 packages differ, the first: click {version('click')}, not 0.1"
    path.unlink()
    assert ask(versions.check_lock, project) == []


def test_disk(project, monkeypatch) -> None:
    monkeypatch.setattr(machine, "NEEDED_BYTES", 1)
    assert ask(machine.check_disk, project) == []
    monkeypatch.setattr(machine, "NEEDED_BYTES", 10**18)
    (found, *_) = ask(machine.check_disk, project)
    assert "GB are free, and a run takes up to 1000000000; make space" in str(found)


def test_gpu(project, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ask(machine.check_gpu, project) == []  # none is asked for
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["experiments"]["resources"]["gpu"] = 0.5
    asking = replace(project, params=parse_params(raw))
    monkeypatch.setattr(machine, "DRIVER", Path("/nowhere"))
    (found,) = ask(machine.check_gpu, asking)
    assert str(found).startswith("GPU: params.yaml asks for 0.5 GPU a trial, and this machine has no NVIDIA driver;")
    monkeypatch.setattr(machine, "DRIVER", Path("/"))
    (found,) = ask(machine.check_gpu, asking)
    assert "set `experiments.resources.gpu: 0`" in found.remedy and "PyTorch" in found.found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert ask(machine.check_gpu, asking) == []


def test_weights(project, monkeypatch) -> None:
    assert ask(machine.check_weights, project) == []  # those of the quick profile come with a package
    missing = replace(project, settings=replace(project.settings, weights_dir=Path("/nowhere")))
    (found,) = ask(machine.check_weights, missing)
    assert "OSTEO_WEIGHTS_DIR" in str(found) and "/nowhere" in str(found)


def test_key(project) -> None:
    path = project.settings.key_file
    assert ask(leftovers.check_key, project) == []  # no data was imported
    (project.settings.root / "data" / "intake.csv").write_text("")
    (found,) = ask(leftovers.check_key, project)
    assert str(found).startswith(f"{path}: the key that data was imported under is missing; get it back")
    assert found.mend is None
    path.parent.mkdir()
    path.write_text("00" * 32)
    path.chmod(0o640)
    (found,) = ask(leftovers.check_key, project)
    assert str(found) == f"{path}: others can read the key (mode 640); chmod 600 {path}"
    assert found.mend() == "closed to others (mode 600)"
    assert ask(leftovers.check_key, project) == []


def test_half_made_folders(project) -> None:
    made = project.settings.root / ".data.new-1"
    made.mkdir()
    assert ask(leftovers.check_half_made, project) == []  # somebody may be at it
    os.utime(made, (time.time() - 7200,) * 2)
    (found,) = ask(leftovers.check_half_made, project)
    assert str(found) == f"{made}: a killed command left it half-made; rm -r {made}"
    assert found.mend() == "removed" and not made.exists()


def test_ray(project, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    place = tmp_path / f"osteo-ray-{os.getuid()}"
    for number in (os.getpid(), 4_194_305):
        (place / f"session_2026-01-01_00-00-00_1_{number}").mkdir(parents=True)
        (place / f"session_2026-01-01_00-00-00_1_{number}" / "log").write_text("12")
    assert ask(leftovers.check_ray, project) == []  # too little for a word
    monkeypatch.setattr(leftovers, "RAY_BYTES", 1)
    (found,) = ask(leftovers.check_ray, project)
    assert found.found.startswith("logs of 1 old sessions")
    found.mend()
    assert [path.name.rpartition("_")[2] for path in place.iterdir()] == [str(os.getpid())]

    ended = []
    lost = SimpleNamespace(
        pid=7,
        info={"name": "raylet", "cmdline": [f"--dir={place}"], "ppid": 1},
        kill=lambda: ended.append(7),
    )
    monkeypatch.setattr(leftovers.psutil, "process_iter", lambda _: [lost])
    (found,) = ask(leftovers.check_ray, project)
    assert str(found) == "Ray (raylet): process 7 has lost its driver; kill 7"
    assert found.mend() == "process 7 ended" and ended == [7]
    lost.info["ppid"] = 8
    assert ask(leftovers.check_ray, project) == []


def test_flows(project, listener, monkeypatch) -> None:
    assert ask(work.check_flows, project) == []  # no server is up: nobody is asked
    monkeypatch.setattr(work, "find_prefect", lambda *_: listener)
    said = {"lost": [], "living": [name_process()]}
    monkeypatch.setattr(work, "_ask_flows", lambda *_: said)
    monkeypatch.setattr(work, "find_orphans", lambda _: [])
    monkeypatch.setattr(work, "find_running", lambda _: [Orphan("1", "job", name_process())])
    watched = replace(project, tracking=SimpleNamespace())
    assert ask(work.check_flows, watched) == []
    said |= {"lost": [{"flow": "brave-fox", "state": "Running", "process": GONE}], "living": []}
    lost, unknown = ask(work.check_flows, watched)
    assert str(lost).startswith(f"flow run brave-fox: Prefect says Running, and process {GONE} is gone; `osteo doctor")
    assert f"process {name_process()} works on runs of MLflow, and Prefect knows no running flow" in str(unknown)
    assert f"kill -INT {os.getpid()}" in unknown.remedy


def test_a_server_that_does_not_say_which_flows_run(project, listener, monkeypatch) -> None:
    monkeypatch.setattr(work, "find_prefect", lambda *_: listener)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="no JSON"))
    with pytest.raises(StoreError, match="Prefect: its server does not say which flows run; run `osteo down`, then"):
        ask(work.check_flows, project)
