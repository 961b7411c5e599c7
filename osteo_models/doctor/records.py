"""The journal of promotions, the champions that it names, and what versions need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.registry.journal import REMEDY, Journal
from osteo_models.registry.lookup import CHAMPION, get_version, list_aliases, list_versions
from osteo_models.registry.needs import read_runs
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.verify import check_evidence, check_judged, check_version


def check_journal(project: Project) -> Iterator[Ailment]:
    """Events of the journal that were altered, removed or inserted."""
    if project.journal is None:
        return
    for name in project.journal.names():
        for fault in project.journal.verify(name):
            yield Ailment(f"journal of {name}", fault, REMEDY)


def check_champions(project: Project) -> Iterator[Ailment]:
    """Aliases moved by hand, promotions killed before their alias was set, and evidence that changed."""
    if project.journal is None or project.tracking is None:
        return
    aliases = list_aliases(project.tracking, CHAMPION)
    for name in sorted({*aliases, *project.journal.names()}):
        alias, champion = aliases.get(name), project.journal.standing(name).champion
        if alias == champion:
            if champion is not None:
                yield from _check_champion(project.tracking, project.journal, f"{name}/{champion}")
            continue
        found = f"alias {CHAMPION} is {_version(alias)}, the journal says {_version(champion)}"
        back = f"`osteo promote {name} {champion}` puts the alias back"
        judged = f"`osteo promote {name} {alias}` has version {alias} judged"
        yield Ailment(
            name, found, ", ".join(step for step, of in ((back, champion), (judged, alias)) if of is not None)
        )


def _check_champion(tracking: Tracking, journal: Journal, reference: str) -> Iterator[Ailment]:
    """A champion's evidence: to the byte that which the journal says it was promoted on."""
    version = get_version(tracking, reference)
    for finding in (*check_judged(journal, version), *check_evidence(tracking, version)):
        yield Ailment(finding.where, finding.found, finding.remedy)


def check_versions(project: Project) -> Iterator[Ailment]:
    """Runs and models of MLflow that somebody deleted and a version needs; every byte is left to `osteo verify`."""
    if project.tracking is None or not (versions := list_versions(project.tracking)):
        return
    runs = read_runs(project.tracking)
    for version in versions:
        for finding in check_version(project.tracking, version, runs, every_byte=False):
            yield Ailment(finding.where, finding.found, finding.remedy)


def _version(number: int | None) -> str:
    return "nowhere" if number is None else f"version {number}"


CHECKS: Final[tuple[Check, ...]] = (check_journal, check_champions, check_versions)
