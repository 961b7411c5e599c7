"""Keys and secrets that are missing or open, and what killed commands leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.data.intake.dataset import Staging
from osteo_models.ops.doctor import leftover_checks, server_checks
from tests.ops.doctor.conftest import ask

# What Ray's agents look like: a title that takes the place of the command line, and a log of the session held open.
PROGRAM = """
import ctypes, sys, time
log = open(sys.argv[1], "w")
ctypes.CDLL(None).prctl(15, sys.argv[2].encode())  # PR_SET_NAME
print(flush=True)
time.sleep(60)
"""


@contextmanager
def named(name: str, log: Path, folder: Path) -> Iterator[psutil.Process]:
    """A process of this name that holds a log open."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(log), name]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


@pytest.fixture
def place(project, tmp_path, monkeypatch) -> Path:
    """The folder of all local Ray sessions."""
    monkeypatch.setattr(leftover_checks.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"osteo-ray-{os.getuid()}"


def session(number: int) -> str:
    return f"session_2026-01-01_00-00-00_1_{number}"


def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_key(project) -> None:
    path = project.settings.key_file
    assert ask(server_checks.check_key, project) == []  # no data was imported
    (project.settings.root / "data" / "intake.csv").write_text("")
    (found,) = ask(server_checks.check_key, project)
    assert str(found).startswith(f"{path}: the key that data was imported under is missing; get it back")
    assert found.fix is None
    path.parent.mkdir()
    path.write_text("00" * 32)
    path.chmod(0o640)
    (found,) = ask(server_checks.check_key, project)
    assert str(found) == f"{path}: others can read the key (mode 640); chmod 600 {path}"
    assert found.fix() == "closed to others (mode 600)"
    assert ask(server_checks.check_key, project) == []


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_secrets_that_others_can_read(project, monkeypatch, mode) -> None:
    assert ask(server_checks.check_secrets, project) == []  # there are none
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        folder = Path(made)
        folder.chmod(0o755)
        monkeypatch.setenv("HOME", made)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        monkeypatch.setenv("PGPASSFILE", str(folder / "pgpass"))
        state = folder / ".osteo" / "cluster"
        names = ("secrets/mlflow", "env", "../../infra/.env", "../../token", "../../pgpass", "../../.ray/auth_token")
        paths = [Path(os.path.normpath(state / name)) for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("word")
            path.chmod(0o600)
        (folder / "infra" / "other").write_text("no secret")
        object.__setattr__(project.settings, "root", folder)
        object.__setattr__(project.settings, "state", folder / ".osteo")
        assert ask(server_checks.check_secrets, project) == []
        for path in paths:
            path.chmod(mode)
        found = ask(server_checks.check_secrets, project)
        told = "others can read this secret (mode {:o}); chmod 600 {}"
        assert [str(each) for each in found] == [f"{path}: {told.format(mode, path)}" for path in paths]
        folder.chmod(0o700)
        assert ask(server_checks.check_secrets, project) == []  # nobody else comes that far
        folder.chmod(0o755)
        assert {each.fix() for each in found} == {"closed to others (mode 600)"}
        assert ask(server_checks.check_secrets, project) == []


def test_what_a_killed_import_left(project) -> None:
    staging = Staging(project.data)
    staging.prepare()
    left = staging.import_log.parent
    assert ask(leftover_checks.check_half_made, project) == []  # it was killed just now, and can be continued
    for path in (*left.iterdir(), left):
        os.utime(path, (time.time() - 7200,) * 2)
    with staging.lock():
        assert ask(leftover_checks.check_half_made, project) == []  # an import that takes hours is no leftover
    (found,) = ask(leftover_checks.check_half_made, project)
    assert str(found) == (
        f"{left}: a killed command left it; "
        "give that command again: it continues; or `osteo doctor --fix` removes what is left"
    )
    with staging.lock(), pytest.raises(OsteoError, match="another command is changing the data set"):
        found.fix()
    assert left.exists()
    assert found.fix() == "removed" and not left.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_data_set_that_was_moved_aside_is_put_back_and_not_removed(project, whole) -> None:
    """A command was killed between the two renames that exchange the data set for its successor."""
    data, aside = project.data, project.data.with_name(".data.before")
    (data / "clinical.csv").write_text("old")
    os.utime(data, (time.time() - 7200,) * 2)
    if whole:
        ready = data.with_name(".data.importing") / "ready"
        ready.mkdir(parents=True)
        (ready / "clinical.csv").write_text("new")
    data.rename(aside)
    found, *_ = ask(leftover_checks.check_half_made, project)
    assert found.where == str(aside)
    assert found.fix() == "removed" and (data / "clinical.csv").read_text() == ("new" if whole else "old")
    assert sorted(path.name for path in data.parent.glob(".data*")) == [".data.lock"]


def test_logs_of_old_sessions(project, place, monkeypatch) -> None:
    cluster, gone = place.with_name(f"{place.name}-0123abcd") / "worker-1", ended()
    stranger = place.with_name(f"{place.name}5")  # of the user whose number begins as ours
    for folder, number in ((place, os.getpid()), (place, gone), (cluster, gone), (stranger, gone)):
        (folder / session(number)).mkdir(parents=True)
        (folder / session(number) / "log").write_text("12")
    (place / "session_latest").symlink_to(place / session(gone))
    assert ask(leftover_checks.check_ray_logs, project) == []  # too little for a word
    monkeypatch.setattr(leftover_checks, "RAY_BYTES", 1)
    local, shared = ask(leftover_checks.check_ray_logs, project)
    assert str(local) == f"{place}: logs of 1 old sessions take 0.0 GB; rm -r {place}, while nothing runs"
    assert shared.where == str(cluster.parent)
    assert (local.fix(), shared.fix()) == ("removed", "removed")
    left = [path.name for path in place.iterdir() if path.is_dir()]
    assert left == [session(os.getpid())] and list(cluster.iterdir()) == []
    assert (stranger / session(gone)).is_dir()


def test_a_session_whose_number_another_process_has_by_now_is_old(project, place, monkeypatch) -> None:
    monkeypatch.setattr(leftover_checks, "RAY_BYTES", 1)
    mine = place / session(os.getpid())
    mine.mkdir(parents=True)
    (mine / "log").write_text("12")
    assert ask(leftover_checks.check_ray_logs, project) == []
    os.utime(mine, (psutil.Process().create_time() - 60,) * 2)
    assert len(ask(leftover_checks.check_ray_logs, project)) == 1


@pytest.mark.parametrize("name", ["raylet", "gcs_server", "ray::DashboardA", "ray::RuntimeEnv"])
def test_processes_of_ray_that_lost_their_driver(project, place, name) -> None:
    root, log = project.settings.root, place / session(ended()) / "logs" / "agent.log"
    with named(name, place / session(os.getpid()) / "logs" / "agent.log", root):
        assert ask(leftover_checks.check_ray, project) == []  # its driver lives
    with named(name, log, root) as process:
        (found,) = ask(leftover_checks.check_ray, project)
        assert str(found) == f"Ray ({name}): process {process.pid} has lost its driver; kill {process.pid}"
        assert found.fix() == f"process {process.pid} ended"
        process.wait(10)
        assert found.fix() == f"process {process.pid} has ended by itself"
    assert ask(leftover_checks.check_ray, project) == []


def test_processes_of_ray_that_are_no_matter_of_this_project(project, place, tmp_path) -> None:
    gone, elsewhere = ended(), Path(tempfile.gettempdir()).parent
    with named("ray::DashboardA", place / session(gone) / "logs" / "agent.log", elsewhere):
        assert ask(leftover_checks.check_ray, project) == []  # another project's, and it gives up by itself
    with named("raylet", tmp_path / "other-ray" / session(gone) / "logs" / "raylet.log", project.settings.root):
        assert ask(leftover_checks.check_ray, project) == []  # another Ray


def test_a_process_that_cannot_be_looked_at_is_left_alone(project, place, monkeypatch) -> None:
    def refuse(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "open_files", refuse)
    with named("raylet", place / session(ended()) / "logs" / "raylet.log", project.settings.root):
        assert ask(leftover_checks.check_ray, project) == []
