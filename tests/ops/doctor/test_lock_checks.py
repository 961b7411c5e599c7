"""Locks that a killed or stopped command holds up others with, against the real git and the real DVC."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.ops.doctor import lock_checks
from tests.ops.doctor.conftest import ask

HOLDER = "import sys, time; from osteo_models.core.files import hold_lock\nfrom pathlib import Path\n"
HOLDER += "with hold_lock(Path(sys.argv[1])): print(flush=True); time.sleep(60)"


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def dvc(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "dvc", *arguments, folder=folder)


def make_old(path: Path) -> None:
    os.utime(path, (time.time() - 2 * lock_checks.HELD_SECONDS,) * 2)


@contextmanager
def git_at_work(folder: Path, repository: Path) -> Iterator[int]:
    """A git process in a folder, that waits."""
    command = ["git", f"--git-dir={repository / '.git'}", "cat-file", "--batch-check"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"HEAD\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def lock(project) -> Path:
    """The lock of a git that was killed, in a real repository."""
    root = project.settings.root
    assert ask(lock_checks.check_git, project) == []  # no repository
    run("git", "init", "-q", folder=root)
    assert ask(lock_checks.check_git, project) == []
    path = root / ".git" / "index.lock"
    path.touch()
    assert ask(lock_checks.check_git, project) == []  # it is young: git is at work
    make_old(path)
    return path


def test_the_lock_of_a_killed_git(project, lock) -> None:
    root = project.settings.root
    assert "index.lock" in run("git", "add", "pyproject.toml", folder=root).stderr
    with git_at_work(root.parent, root):  # somebody's git elsewhere is no reason
        (found,) = ask(lock_checks.check_git, project)
        assert str(found) == f"{lock}: a killed command left git's lock, and no commit can be made; rm {lock}"
        assert found.fix() == "removed" and ask(lock_checks.check_git, project) == []
    assert run("git", "add", "pyproject.toml", folder=root).returncode == 0


def test_the_lock_of_a_git_that_may_be_at_work_is_left(project, lock) -> None:
    root = project.settings.root
    (old,) = ask(lock_checks.check_git, project)
    (root / "below").mkdir()
    with git_at_work(root / "below", root) as number:
        (found,) = ask(lock_checks.check_git, project)
        assert f"git (process {number}) is at work, or a killed command left it" in found.found and found.fix is None
        assert found.remedy == f"wait for git; should it stay, rm {lock}"
        with pytest.raises(OsteoError, match=f"git \\(process {number}\\) is at work"):
            old.fix()
    lock.unlink()
    lock.touch()
    with pytest.raises(OsteoError, match="another command has it by now"):
        old.fix()
    assert lock.exists()
    lock.unlink()
    assert old.fix() == "removed"  # by whoever held it


def test_a_git_of_somebody_else_is_respected(project, lock, monkeypatch) -> None:
    def refuse(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "cwd", refuse)
    with git_at_work(project.settings.root.parent, project.settings.root):
        (found,) = ask(lock_checks.check_git, project)
        assert found.fix is None


def test_a_list_of_dvc_that_was_cut_off(project) -> None:
    root = project.settings.root
    assert ask(lock_checks.check_dvc, project) == []
    assert dvc("init", "--no-scm", "-q", folder=root).returncode == 0
    (root / "dvc.yaml").write_text("stages: {one: {cmd: cp a b, deps: [a], outs: [b]}}", encoding="utf-8")
    (root / "a").write_text("a")
    path = root / ".dvc" / "tmp" / "rwlock"
    path.write_text('{"write": {"/x', encoding="utf-8")
    assert "Unable to read RWLock-file" in dvc("status", folder=root).stderr
    assert ask(lock_checks.check_dvc, project) == []  # somebody may be at it
    make_old(path)
    (found,) = ask(lock_checks.check_dvc, project)
    assert str(found) == f"{path}: a killed command left it unreadable, and DVC's commands fail; rm {path}"
    for name in ("lock", "rwlock.lock"):
        with path.with_name(name).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DVC does
            with pytest.raises(OsteoError, match="a DVC command is at work"):
                found.fix()
    assert found.fix() == "removed"
    done = dvc("status", folder=root)
    assert done.returncode == 0 and "one" in done.stdout
    assert ask(lock_checks.check_dvc, project) == []


@pytest.fixture
def rwlock(project) -> Path:
    """The place of DVC's list, with DVC's locks beside it."""
    folder = project.settings.root / ".dvc" / "tmp"
    folder.mkdir(parents=True)
    for name in ("lock", "rwlock.lock"):
        (folder / name).touch()
    return folder / "rwlock"


def test_a_list_of_dvc_that_names_another_process(project, rwlock, monkeypatch) -> None:
    from dvc.rwlock import SCHEMA

    monkeypatch.setattr(lock_checks, "HELD_SECONDS", 0.0)
    mine, gone = ({"pid": pid, "cmd": "dvc repro"} for pid in (os.getpid(), 4_194_305))
    lists = {"write": {"/a": mine, "/b": gone}, "read": {"/c": [mine], "/d": [mine, gone]}}
    rwlock.write_text(json.dumps(lists), encoding="utf-8")
    os.utime(rwlock, (psutil.Process().create_time() + 1,) * 2)
    assert ask(lock_checks.check_dvc, project) == []  # it may well be this one; of one that is gone DVC knows itself
    os.utime(rwlock, (psutil.Process().create_time() - 100,) * 2)
    (found,) = ask(lock_checks.check_dvc, project)
    told = f"it names process {os.getpid()}, which began after that, and DVC's commands fail"
    assert str(found) == f"{rwlock}: {told}; rm {rwlock}"
    assert found.fix() == "entries without a process were removed"
    assert SCHEMA(json.loads(rwlock.read_text(encoding="utf-8"))) == {"write": {"/b": gone}, "read": {"/d": [gone]}}
    assert found.fix() == "in order by now"


def test_locks_of_dvc_of_its_other_kind_are_not_made_nor_broken(project, rwlock) -> None:
    rwlock.write_text("", encoding="utf-8")
    make_old(rwlock)
    (found,) = ask(lock_checks.check_dvc, project)
    (rwlock.with_name("claim")).hardlink_to(rwlock.with_name("rwlock.lock"))
    with pytest.raises(OsteoError, match="with a hard link as its lock"):
        found.fix()
    rwlock.with_name("rwlock.lock").unlink()
    with pytest.raises(OsteoError, match=r"DVC's rwlock.lock is not there to be held"):
        found.fix()
    assert not rwlock.with_name("rwlock.lock").exists() and rwlock.exists()


@pytest.mark.skipif(not lock_checks.KERNEL_LOCKS.exists(), reason="Linux says who holds a lock")
@pytest.mark.parametrize("name", ["demo.lock", "cluster/start.lock", "../.data.lock"])
def test_a_lock_whose_holder_was_stopped(project, name) -> None:
    path = Path(os.path.normpath(project.settings.state / name))
    path.parent.mkdir(exist_ok=True)
    assert ask(lock_checks.check_stopped, project) == []
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        assert ask(lock_checks.check_stopped, project) == []  # it is at work
        holder.send_signal(signal.SIGSTOP)
        os.waitpid(holder.pid, os.WUNTRACED)
        (found,) = ask(lock_checks.check_stopped, project)
        told = f"process {holder.pid} holds it and was stopped, as by Ctrl-Z, and other commands wait for it"
        assert str(found) == f"{path}: {told}; `fg` in its terminal, or `kill -CONT {holder.pid}`, lets it go on"
        assert found.fix is None  # who stopped it had a reason
        holder.send_signal(signal.SIGCONT)
        holder.kill()
    assert ask(lock_checks.check_stopped, project) == []
