"""Who acts, for the journal."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass

from osteo_models.data.revisions import read_commit, read_user
from osteo_models.settings import Settings


@dataclass(frozen=True)
class Author:
    """Who acts, and at which commit of the project; empty outside git."""

    who: str
    commit: str = ""


def read_author(settings: Settings) -> Author:
    """OSTEO_USER, else git's user.name, else the login name."""
    who = settings.user or read_user(settings.root) or _login()
    return Author(who, read_commit(settings.root))


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number and no name
        return f"user {os.getuid()}"
