"""Locks behind which others wait. Ours are the kernel's and end with their process; those of git and DVC are files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from osteo_models.core.errors import OsteoError
from osteo_models.core.files import write_atomically
from osteo_models.data.data_folder import Staging
from osteo_models.ops.doctor.problem import Check, Problem, Project

HELD_SECONDS: Final = 60.0  # git changes its index, and DVC its list, in less
MARGIN_SECONDS: Final = 2.0  # between the clock of a file system and that of processes
OURS: Final = ("*.lock", "*/*.lock")  # in the state folder
KERNEL_LOCKS: Final = Path("/proc/locks")  # Linux


def check_git(project: Project) -> Iterator[Problem]:
    """The lock of git's index, which stops every later commit."""
    asked = ["git", "rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-path", "index.lock"]
    told = subprocess.run(asked, cwd=project.settings.root, capture_output=True, text=True, check=False)
    if told.returncode:
        return
    *folders, name = told.stdout.splitlines()
    path, places = project.settings.root / name, [Path(folder) for folder in folders]
    made = _read_stamp(path)
    if made is None or _is_fresh(made):
        return
    if at_work := _find_git(places):
        found = (
            f"git (process {at_work}) is at work, or a killed command left it; until it is gone no commit can be made"
        )
        yield Problem(str(path), found, f"wait for git; should it stay, rm {path}")
    else:
        found = "a killed command left git's lock, and no commit can be made"
        yield Problem(str(path), found, f"rm {path}", lambda: _release_git(path, made, places))


def check_dvc(project: Project) -> Iterator[Problem]:
    """DVC's list of who reads and writes what: cut off by a kill, or naming a process that is another one by now."""
    path = project.settings.root / ".dvc" / "tmp" / "rwlock"
    made = _read_stamp(path)
    if made is None or _is_fresh(made):
        return
    if found := _judge(path):
        yield Problem(str(path), f"{found}, and DVC's commands fail", f"rm {path}", lambda: _fix_dvc(path))


def check_stopped(project: Project) -> Iterator[Problem]:
    """Our own locks whose holder was stopped, as by Ctrl-Z: it neither goes on nor ends, and others wait."""
    if not KERNEL_LOCKS.exists():
        return
    state = project.settings.state
    files = [*(path for pattern in OURS for path in state.glob(pattern)), Staging(project.data).lock_file]
    paths = {path.stat().st_ino: path for path in files if path.exists()}
    for line in KERNEL_LOCKS.read_text(encoding="ascii").splitlines():
        # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:16039951 0 EOF"; those that wait have an arrow in the second place.
        _, kind, _, _, holder, place, *_ = line.split()
        path = paths.get(int(place.rpartition(":")[2])) if kind == "FLOCK" else None
        if path is not None and _is_stopped(int(holder), path):
            found = f"process {holder} holds it and was stopped, as by Ctrl-Z, and other commands wait for it"
            yield Problem(str(path), found, f"`fg` in its terminal, or `kill -CONT {holder}`, lets it go on")


def _find_git(places: list[Path]) -> int | None:
    """A git process in one of the folders, or one whose folder cannot be read."""
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or ""
        if name == "git" or name.startswith("git-"):
            try:
                folder = Path(process.cwd())
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                return process.pid
            if any(folder.is_relative_to(place) for place in places):
                return process.pid
    return None


def _release_git(path: Path, made: os.stat_result, places: list[Path]) -> str:
    if at_work := _find_git(places):
        raise OsteoError(f"git (process {at_work}) is at work")
    now = _read_stamp(path)
    if now is not None and (now.st_ino, now.st_mtime_ns) != (made.st_ino, made.st_mtime_ns):
        raise OsteoError("another command has it by now")
    path.unlink(missing_ok=True)
    return "removed"


def _judge(path: Path) -> str:
    """What is wrong with DVC's list; empty where nothing is."""
    try:
        younger = _find_younger(json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime)
    except FileNotFoundError:
        return ""
    except (ValueError, TypeError, KeyError, AttributeError):
        return "a killed command left it unreadable"
    return f"it names process {min(younger)}, which began after that" if younger else ""


def _fix_dvc(path: Path) -> str:
    """As DVC itself does it: under its locks, and of a list that can be read only what names nobody goes."""
    with _hold(path.with_name("lock")), _hold(path.with_name("rwlock.lock")):
        if not _judge(path):
            return "in order by now"
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
            kept = _without(lists, _find_younger(lists, path.stat().st_mtime))
        except (ValueError, TypeError, KeyError, AttributeError):
            kept = {}
        if not any(kept.values()):
            path.unlink()
            return "removed"
        write_atomically(path, json.dumps(kept))
        return "entries without a process were removed"


def _find_younger(lists: dict[str, Any], written: float) -> set[int]:
    """Numbers that the list names and that another process has by now; of those that are gone DVC knows itself."""
    readers = [each for entries in lists.get("read", {}).values() for each in entries]
    named = {int(each["pid"]) for each in (*lists.get("write", {}).values(), *readers)}
    return {number for number in named if _began_after(number, written + MARGIN_SECONDS)}


def _without(lists: dict[str, Any], numbers: Container[int]) -> dict[str, Any]:
    write = {place: each for place, each in lists.get("write", {}).items() if each["pid"] not in numbers}
    read = {
        place: kept
        for place, entries in lists.get("read", {}).items()
        if (kept := [each for each in entries if each["pid"] not in numbers])
    }
    return {"write": write, "read": read}


@contextlib.contextmanager
def _hold(path: Path) -> Iterator[None]:
    """Hold one of DVC's locks, as DVC does; one that is not there is not made, for it may be of its other kind.

    Raises:
        OsteoError: A DVC command holds it, or it is not there.
    """
    if not path.exists():
        raise OsteoError(f"DVC's {path.name} is not there to be held")
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OsteoError("a DVC command is at work") from None
        if os.fstat(file.fileno()).st_nlink > 1:  # DVC's `core.hardlink_lock`
            raise OsteoError("a DVC command is at work, or was killed with a hard link as its lock")
        yield


def _began_after(number: int, moment: float) -> bool:
    try:
        return psutil.Process(number).create_time() > moment
    except psutil.NoSuchProcess:
        return False


def _is_stopped(number: int, path: Path) -> bool:
    """Whether a process was stopped and has the file open: a number of a file alone may be another disk's."""
    try:
        process = psutil.Process(number)
        held = process.status() == psutil.STATUS_STOPPED
        return held and any(file.path == str(path) for file in process.open_files())
    except psutil.Error:
        return False


def _read_stamp(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_fresh(made: os.stat_result) -> bool:
    return time.time() - made.st_mtime < HELD_SECONDS


CHECKS: Final[tuple[Check, ...]] = (check_git, check_dvc, check_stopped)
