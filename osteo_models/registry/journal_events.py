"""Events of the journal: their hash chain, the champion they lead to, and their presentation."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from osteo_models.core.settings import Settings
from osteo_models.data.revisions import read_commit, read_user

Action = Literal["promotion", "refusal", "rollback", "waiver"]
START: Final = "0" * 64  # `previous` of the first event of a model
RESTORE: Final = "restore the journal's tables from a backup, and compare the two"


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
class Author:
    """Name of the user and commit of the project; empty outside git."""

    who: str
    commit: str = ""


@dataclass(frozen=True)
class Entry:
    """The content of an event; the journal adds position, time, author, the champion before it, and hashes.

    Attributes:
        version: The new champion; in a refusal or waiver, the version that was judged.
    """

    action: Action
    version: int
    reason: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class ChampionState:
    """State of a model's champion after all its events.

    Attributes:
        changes: Number of changes of the champion, which a writer compares before it sets.
    """

    champion: int | None = None
    changes: int = 0
    events: int = 0
    sha256: str = START


def make_event(name: str, entry: Entry, author: Author, state: ChampionState) -> Event:
    """The next event of a model."""
    evidence = json.dumps(entry.evidence, sort_keys=True)
    made = Event(
        name=name,
        position=state.events + 1,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=author.who,
        action=entry.action,
        version_before=state.champion,
        version_after=entry.version,
        reason=entry.reason,
        evidence=evidence,
        evidence_sha256=hashlib.sha256(evidence.encode()).hexdigest(),
        git_commit=author.commit,
        previous=state.sha256,
        sha256="",
    )
    return replace(made, sha256=made.hash())


def apply_event(state: ChampionState, event: Event) -> ChampionState:
    """The state after one more event."""
    changed = event.action in ("promotion", "rollback")
    return ChampionState(
        champion=event.version_after if changed else state.champion,
        changes=state.changes + changed,
        events=state.events + 1,
        sha256=event.sha256,
    )


def previous_champion(events: Sequence[Event]) -> int | None:
    """The champion to go back to: promotions stack up, and each rollback takes one off."""
    champions: list[int | None] = [None]
    for event in events:
        if event.action == "promotion" and event.version_after != champions[-1]:
            champions.append(event.version_after)
        elif event.action == "rollback" and len(champions) > 1:
            champions.pop()
    return champions[-2] if len(champions) > 1 else None


def read_author(settings: Settings) -> Author:
    """OSTEO_USER, else git's user.name, else the login name."""
    who = settings.user or read_user(settings.root) or _login()
    return Author(who, read_commit(settings.root))


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number and no name
        return f"user {os.getuid()}"


@dataclass(frozen=True)
class History:
    """A model's events, the oldest first, and faults in their chain."""

    name: str
    champion: int | None
    events: tuple[Event, ...]
    faults: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the evidence comes parsed where it can be."""
        events = [asdict(event) | {"evidence": _parse(event.evidence)} for event in self.events]
        return {"name": self.name, "champion": self.champion, "events": events, "faults": list(self.faults)}

    def as_lines(self) -> Iterator[str]:
        """For people."""
        now = "no champion" if self.champion is None else f"version {self.champion} is champion"
        yield f"{self.name}: {now}"
        for event in self.events:
            yield f"  {event.position:>3}  {event.time[:19].replace('T', ' ')}  {event.who}: {_describe(event)}"
        for fault in self.faults:
            yield f"  ALTERED: {fault}; {RESTORE}"


def _describe(event: Event) -> str:
    reason = f" ({event.reason})" if event.reason else ""
    commit = f" at {event.git_commit[:12]}" if event.git_commit else ""
    if event.action == "promotion":
        before = f" in place of version {event.version_before}" if event.version_before is not None else ""
        return f"promoted version {event.version_after}{before}{commit}{reason}"
    if event.action == "rollback":
        return f"rolled back from version {event.version_before} to version {event.version_after}{reason}"
    if event.action == "waiver":
        return f"waived for version {event.version_after}: {event.reason}"
    evidence = _parse(event.evidence)
    undecided = isinstance(evidence, dict) and evidence.get("verdict") == "NOT_ENOUGH_EVIDENCE"
    verb = "not enough evidence for" if undecided else "refused"
    return f"{verb} version {event.version_after}{commit}{reason}"


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # altered, and the faults say so
        return text
