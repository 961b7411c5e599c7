"""What killed commands leave behind, and the key that must not be left open."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from osteo_models.doctor.ailment import Ailment, Check, Project

RAY_BYTES: Final = 10**9  # logs of that many old sessions are worth a word
RAY_PROGRAMS: Final = ("raylet", "gcs_server")
QUIET_SECONDS: Final = 3600.0  # a folder that nobody wrote to for so long is nobody's work


def check_key(project: Project) -> Iterator[Ailment]:
    """The key of pseudonyms: there where data was imported under it, and closed to others."""
    path, data = project.settings.key_file.expanduser(), _data(project)
    if not path.exists():
        if (data / "intake.csv").is_file():
            found = f"the key that {data.name} was imported under is missing"
            yield Ailment(str(path), found, "get it back, or name it by OSTEO_KEY_FILE; a new key gives new pseudonyms")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Ailment(str(path), f"others can read the key (mode {mode:o})", f"chmod 600 {path}", lambda: _close(path))


def check_half_made(project: Project) -> Iterator[Ailment]:
    """Folders beside the data set that a killed command left half-made."""
    data = _data(project)
    for path in sorted(data.parent.glob(f".{data.name}.*")):
        if path.is_dir() and time.time() - path.stat().st_mtime > QUIET_SECONDS:
            yield Ailment(
                str(path), "a killed command left it half-made", f"rm -r {path}", lambda path=path: _remove(path)
            )


def check_ray(_: Project) -> Iterator[Ailment]:
    """Ray's processes that lost their driver, and logs of old sessions."""
    place = Path(tempfile.gettempdir()) / f"osteo-ray-{os.getuid()}"
    for process in psutil.process_iter(["name", "cmdline", "ppid"]):
        own = any(str(place) in part for part in process.info["cmdline"] or ())
        if own and process.info["name"] in RAY_PROGRAMS and process.info["ppid"] == 1:
            found = f"process {process.pid} has lost its driver"
            yield Ailment(
                f"Ray ({process.info['name']})",
                found,
                f"kill {process.pid}",
                lambda process=process: _end(process),
            )
    old = [path for path in place.glob("session_*_*") if path.is_dir() and not path.is_symlink() and _is_old(path)]
    size = sum(file.lstat().st_size for path in old for file in path.rglob("*") if file.is_file())
    if size > RAY_BYTES:
        found = f"logs of {len(old)} old sessions take {size / 1e9:.1f} GB"
        yield Ailment(str(place), found, f"rm -r {place}/session_*, while nothing runs", lambda: _remove(*old))


def _data(project: Project) -> Path:
    return project.settings.root / (project.params.data.path if project.params else "data")


def _is_old(session: Path) -> bool:
    """A session's name ends with the number of its driver."""
    pid = session.name.rpartition("_")[2]
    return pid.isdigit() and not psutil.pid_exists(int(pid))


def _close(path: Path) -> str:
    path.chmod(0o600)
    return "closed to others (mode 600)"


def _remove(*paths: Path) -> str:
    for path in paths:
        shutil.rmtree(path)
    return f"{len(paths)} folders removed" if len(paths) > 1 else "removed"


def _end(process: psutil.Process) -> str:
    process.kill()
    return f"process {process.pid} ended"


CHECKS: Final[tuple[Check, ...]] = (check_key, check_half_made, check_ray)
