"""The events of the journal: what each holds, how they follow one another, and what they say together."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from osteo_models.core.settings import Settings
from osteo_models.data.revisions import read_commit, read_user

Action = Literal["promotion", "refusal", "rollback", "waiver"]
START: Final = "0" * 64  # what the first event of a model follows


@dataclass(frozen=True)
class Event:
    """One entry of the journal.

    Attributes:
        position: Within its model, from 1.
        time: UTC, ISO 8601.
        version_before: Champion before it.
        version_after: Champion after it; in a refusal or waiver, the version that was judged.
        evidence: JSON of what was judged; numbers, hashes and rules, no patient.
        previous: `sha256` of the event before.
        sha256: Of everything else here.
    """

    name: str
    position: int
    time: str
    who: str
    action: Action
    version_before: int | None
    version_after: int | None
    reason: str
    evidence: str
    evidence_sha256: str
    git_commit: str
    previous: str
    sha256: str

    def hash(self) -> str:
        """What `sha256` must be."""
        content = asdict(self)
        del content["sha256"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """An event as its author gives it; the journal adds place, time and hashes."""

    action: Action
    who: str
    version_before: int | None
    version_after: int | None
    reason: str
    evidence: Mapping[str, Any]
    git_commit: str


@dataclass(frozen=True)
class Standing:
    """How a model's events end.

    Attributes:
        changes: How often the champion was changed: what a writer compares before it sets.
    """

    champion: int | None = None
    changes: int = 0
    events: int = 0
    sha256: str = START


def make_event(name: str, entry: Entry, standing: Standing) -> Event:
    """The next event of a model."""
    evidence = json.dumps(entry.evidence, sort_keys=True)
    made = Event(
        name=name,
        position=standing.events + 1,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=entry.who,
        action=entry.action,
        version_before=entry.version_before,
        version_after=entry.version_after,
        reason=entry.reason,
        evidence=evidence,
        evidence_sha256=hashlib.sha256(evidence.encode()).hexdigest(),
        git_commit=entry.git_commit,
        previous=standing.sha256,
        sha256="",
    )
    return replace(made, sha256=made.hash())


def follow(standing: Standing, one: Event) -> Standing:
    """How a model's events end with one more."""
    changed = one.action in ("promotion", "rollback")
    return Standing(
        champion=one.version_after if changed else standing.champion,
        changes=standing.changes + changed,
        events=standing.events + 1,
        sha256=one.sha256,
    )


def previous_champion(events: Sequence[Event]) -> int | None:
    """The champion to go back to: promotions stack up, and each rollback takes one off."""
    champions: list[int | None] = [None]
    for one in events:
        if one.action == "promotion" and one.version_after != champions[-1]:
            champions.append(one.version_after)
        elif one.action == "rollback" and len(champions) > 1:
            champions.pop()
    return champions[-2] if len(champions) > 1 else None


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
