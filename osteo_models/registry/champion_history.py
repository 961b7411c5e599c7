"""A model's journal as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from osteo_models.core.errors import InputError
from osteo_models.registry.journal import REMEDY, Journal
from osteo_models.registry.journal_events import Event


@dataclass(frozen=True)
class History:
    """A model's events, the oldest first, and what is wrong with them."""

    name: str
    champion: int | None
    events: tuple[Event, ...]
    faults: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the evidence comes parsed where it can be."""
        events = [asdict(one) | {"evidence": _parse(one.evidence)} for one in self.events]
        return {"name": self.name, "champion": self.champion, "events": events, "faults": list(self.faults)}

    def as_lines(self) -> Iterator[str]:
        """For people."""
        now = "no champion" if self.champion is None else f"version {self.champion} is champion"
        yield f"{self.name}: {now}"
        for one in self.events:
            yield f"  {one.position:>3}  {one.time[:19].replace('T', ' ')}  {one.who}: {_tell(one)}"
        for fault in self.faults:
            yield f"  ALTERED: {fault}; {REMEDY}"


def show_history(journal: Journal, name: str) -> History:
    """Read and verify a model's events.

    Raises:
        InputError: There are none.
    """
    events, faults = journal.history(name), journal.verify(name)
    if not events and not faults:
        names = ", ".join(journal.names())
        raise InputError(f"no events of {name!r}", where="journal", allowed=names or "nothing was promoted yet")
    return History(name, journal.standing(name).champion, tuple(events), tuple(faults))


def _tell(one: Event) -> str:
    reason = f" ({one.reason})" if one.reason else ""
    commit = f" at {one.git_commit[:12]}" if one.git_commit else ""
    if one.action == "promotion":
        before = f" in place of version {one.version_before}" if one.version_before is not None else ""
        return f"promoted version {one.version_after}{before}{commit}{reason}"
    if one.action == "rollback":
        return f"rolled back from version {one.version_before} to version {one.version_after}{reason}"
    if one.action == "waiver":
        return f"waived for version {one.version_after}: {one.reason}"
    evidence = _parse(one.evidence)
    undecided = isinstance(evidence, dict) and evidence.get("verdict") == "NOT_ENOUGH_EVIDENCE"
    verb = "not enough evidence for" if undecided else "refused"
    return f"{verb} version {one.version_after}{commit}{reason}"


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # altered, and the faults say so
        return text
