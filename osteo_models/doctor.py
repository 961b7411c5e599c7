"""`osteo doctor`: what is wrong in the stores, and what to do about it.

A check yields findings; a new one is a function here and its name in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from osteo_models.registry.journal import REMEDY, Journal, open_journal
from osteo_models.registry.lookup import CHAMPION, list_aliases
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.settings import Settings


@dataclass(frozen=True)
class Ailment:
    """Something wrong: where, what was found, and what to do."""

    where: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"


@dataclass(frozen=True)
class Stores:
    """What the checks look into."""

    settings: Settings
    tracking: Tracking
    journal: Journal


def examine(settings: Settings) -> list[Ailment]:
    """Run every check.

    Raises:
        StoreError: A store cannot be used at all.
    """
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    stores = Stores(settings, tracking, open_journal(settings.journal_uri))
    return [ailment for check in CHECKS for ailment in check(stores)]


def check_journal(stores: Stores) -> Iterator[Ailment]:
    """Events of the journal that were altered, removed or inserted."""
    for name in stores.journal.names():
        for fault in stores.journal.verify(name):
            yield Ailment(f"journal of {name}", fault, REMEDY)


def check_champions(stores: Stores) -> Iterator[Ailment]:
    """Aliases that somebody moved, and a promotion that was killed before its alias followed."""
    aliases = list_aliases(stores.tracking, CHAMPION)
    for name in sorted({*aliases, *stores.journal.names()}):
        alias, champion = aliases.get(name), stores.journal.standing(name).champion
        if alias == champion:
            continue
        found = f"alias {CHAMPION} is {_version(alias)}, the journal says {_version(champion)}"
        back = f"`osteo promote {name} {champion}` puts the alias back"
        judged = f"`osteo promote {name} {alias}` has version {alias} judged"
        yield Ailment(
            name, found, ", ".join(step for step, of in ((back, champion), (judged, alias)) if of is not None)
        )


def _version(number: int | None) -> str:
    return "nowhere" if number is None else f"version {number}"


CHECKS: Final[tuple[Callable[[Stores], Iterator[Ailment]], ...]] = (check_journal, check_champions)
