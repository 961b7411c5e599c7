"""The key of pseudonyms, and the secrets of servers: there, and closed to others."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.doctor.servers import read_variable
from osteo_models.settings import Settings

NAMED: Final = ("RAY_AUTH_TOKEN_PATH", "PGPASSFILE")  # each holds the path of a file
RAY_TOKEN: Final = "~/.ray/auth_token"  # Ray makes it, as open as new files are


def check_key(project: Project) -> Iterator[Ailment]:
    """The key of pseudonyms: there where data was imported under it, and closed to others."""
    path, data = project.settings.key_file.expanduser(), project.data
    if not path.exists():
        if (data / "intake.csv").is_file():
            found = f"the key that {data.name} was imported under is missing"
            yield Ailment(str(path), found, "get it back, or name it by OSTEO_KEY_FILE; a new key gives new pseudonyms")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Ailment(str(path), f"others can read the key (mode {mode:o})", f"chmod 600 {path}", lambda: _close(path))


def check_secrets(project: Project) -> Iterator[Ailment]:
    """Passwords and tokens that others can read."""
    for path in _list_secrets(project.settings):
        try:
            mode = path.stat().st_mode
            is_open = stat.S_ISREG(mode) and _is_open(path, mode)
        except OSError:  # not there, or out of reach: whoever needs it says so
            continue
        if is_open:
            found = f"others can read this secret (mode {stat.S_IMODE(mode):o})"
            yield Ailment(str(path), found, f"chmod 600 {path}", lambda path=path: _close(path))


def _list_secrets(settings: Settings) -> list[Path]:
    named = [Path(path).expanduser() for path in (*map(read_variable, NAMED), RAY_TOKEN) if path]
    made = [*sorted(settings.state.glob("*/secrets/*")), *sorted(settings.state.glob("*/env"))]
    return list(dict.fromkeys((*made, settings.root / "infra" / ".env", *named)))


def _is_open(path: Path, mode: int) -> bool:
    """Whether the group or all others may read a file, and pass the folders above it."""
    folders = [folder.stat().st_mode for folder in path.resolve().parents]
    group = mode & stat.S_IRGRP and all(each & (stat.S_IXGRP | stat.S_IXOTH) for each in folders)
    return bool(group or (mode & stat.S_IROTH and all(each & stat.S_IXOTH for each in folders)))


def _close(path: Path) -> str:
    path.chmod(0o600)
    return "closed to others (mode 600)"


CHECKS: Final[tuple[Check, ...]] = (check_key, check_secrets)
