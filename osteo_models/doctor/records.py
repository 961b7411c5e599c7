"""The journal of promotions, and the champions that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.registry.journal import REMEDY
from osteo_models.registry.lookup import CHAMPION, list_aliases


def check_journal(project: Project) -> Iterator[Ailment]:
    """Events of the journal that were altered, removed or inserted."""
    if project.journal is None:
        return
    for name in project.journal.names():
        for fault in project.journal.verify(name):
            yield Ailment(f"journal of {name}", fault, REMEDY)


def check_champions(project: Project) -> Iterator[Ailment]:
    """Aliases that somebody moved, and a promotion that was killed before its alias followed."""
    if project.journal is None or project.tracking is None:
        return
    aliases = list_aliases(project.tracking, CHAMPION)
    for name in sorted({*aliases, *project.journal.names()}):
        alias, champion = aliases.get(name), project.journal.standing(name).champion
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


CHECKS: Final[tuple[Check, ...]] = (check_journal, check_champions)
