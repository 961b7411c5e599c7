"""What killed commands leave behind: half-made folders, Ray's processes and logs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from osteo_models.core.processes import NOT_RUNNING
from osteo_models.core.settings import Settings
from osteo_models.data.data_folder import Staging
from osteo_models.ops.doctor.problem import Check, Problem, Project

RAY_BYTES: Final = 10**9  # logs of that many old sessions are worth a word
RAY_PROGRAMS: Final = ("raylet", "gcs_server")
QUIET_SECONDS: Final = 3600.0
RAY_TITLE: Final = "ray::"  # of agents and workers; it stands in the place of their command line


def check_half_made(project: Project) -> Iterator[Problem]:
    """What a killed import, withdrawal or `osteo data synth` left beside the data set."""
    staging = Staging(project.data)
    for path in staging.find_leftovers():
        # An import that was killed just now will be given again; a data set that was moved aside must not wait.
        if path == staging.building.parent and time.time() - _newest(path) < QUIET_SECONDS:
            continue
        remedy = "give that command again: it continues; or `osteo doctor --fix` removes what is left"
        yield Problem(str(path), "a killed command left it", remedy, lambda: _clear(staging))


def check_ray(project: Project) -> Iterator[Problem]:
    """Ray's processes that lost their driver."""
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or ""
        with contextlib.suppress(psutil.Error):  # it has just ended, or is of another user
            # Agents give up by themselves after a minute: only those of this project are worth a word.
            if name in RAY_PROGRAMS or (name.startswith(RAY_TITLE) and _is_within(process, project.settings)):
                session = _find_session(process)
                if session is not None and _is_old(session):
                    found, remedy = f"process {process.pid} has lost its driver", f"kill {process.pid}"
                    yield Problem(f"Ray ({name})", found, remedy, lambda process=process: _end(process))


def check_ray_logs(_: Project) -> Iterator[Problem]:
    """Logs of old Ray sessions: the local ones, and those of clusters on this machine, of whichever project."""
    sizes: dict[Path, tuple[int, list[Path]]] = {}
    for place in _list_places():
        old = [path for path in (*place.glob("session_*"), *place.glob("*/session_*")) if _is_old(path)]
        if old:
            sizes[place] = (sum(map(_measure, old)), old)
    if sum(size for size, _ in sizes.values()) <= RAY_BYTES:
        return
    for place, (size, old) in sizes.items():
        found = f"logs of {len(old)} old sessions take {size / 1e9:.1f} GB"
        remedy = f"rm -r {place}, while nothing runs"
        yield Problem(str(place), found, remedy, lambda old=old: _remove(*old))


def _list_places() -> list[Path]:
    """Our folders of Ray's: one for all local sessions, and one for each project's cluster."""
    own, user = f"osteo-ray-{os.getuid()}", os.getuid()
    found = [path for path in _temporary().glob(f"{own}*") if re.fullmatch(rf"{own}(-[0-9a-f]{{8}})?", path.name)]
    return sorted(path for path in found if not path.is_symlink() and path.is_dir() and path.stat().st_uid == user)


def _find_session(process: psutil.Process) -> Path | None:
    """The folder of our Ray session in which a process keeps its log open."""
    begin = re.escape(str(_temporary() / f"osteo-ray-{os.getuid()}"))
    session = re.compile(rf"{begin}(-[0-9a-f]{{8}}/[^/]+)?/session_[^/]+(?=/)")
    found = (session.match(file.path) for file in process.open_files())
    return next((Path(match[0]) for match in found if match), None)


def _is_old(session: Path) -> bool:
    """Whether its first process, a driver or a head, is gone: the name ends with that one's number."""
    number = session.name.rpartition("_")[2]
    if not number.isdigit() or session.is_symlink():
        return False
    try:
        process = psutil.Process(int(number))
        if process.status() in NOT_RUNNING:
            return True
        return session.is_dir() and process.create_time() > session.stat().st_mtime  # another one has its number
    except psutil.NoSuchProcess:
        return True


def _is_within(process: psutil.Process, settings: Settings) -> bool:
    place = Path(process.cwd())
    return place.is_relative_to(settings.root) or place.is_relative_to(settings.state)


def _temporary() -> Path:
    return Path(tempfile.gettempdir()).resolve()


def _clear(staging: Staging) -> str:
    with staging.lock():  # which first completes an exchange that was cut short: what is left may be the only copy
        staging.clear()
    return "removed"


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _measure(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            total += 0 if path.is_dir() else path.lstat().st_size
    return total


def _remove(*paths: Path) -> str:
    for path in paths:
        shutil.rmtree(path)
    return f"{len(paths)} folders removed" if len(paths) > 1 else "removed"


def _end(process: psutil.Process) -> str:
    try:
        process.kill()  # it looks first whether another one has the number by now
    except psutil.NoSuchProcess:
        return f"process {process.pid} has ended by itself"
    return f"process {process.pid} ended"


CHECKS: Final[tuple[Check, ...]] = (check_half_made, check_ray, check_ray_logs)
