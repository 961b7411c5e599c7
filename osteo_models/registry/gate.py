"""Promotion: a version becomes `champion` only if every rule of params.yaml holds.

The journal decides which version is champion, and MLflow's alias is synchronised with it. The journal's entry is made
first, in one transaction that only one of two concurrent promotions can win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from osteo_models.core.errors import GateRefused, InputError, StaleDataError
from osteo_models.core.params import GateRule
from osteo_models.core.settings import Settings
from osteo_models.data.code_tree import COMMIT, TREE
from osteo_models.registry.champion_comparison import compare_with_champion
from osteo_models.registry.gate_evidence import complete_evidence, read_stored_evidence
from osteo_models.registry.journal import Journal
from osteo_models.registry.journal_events import Author, Entry, previous_champion
from osteo_models.registry.model_card import add_waivers, describe_champion
from osteo_models.registry.package import MANIFEST_TAG, REMEDY
from osteo_models.registry.rules import (
    ChampionComparison,
    Evidence,
    RuleResult,
    Verdict,
    Waiver,
    check_rules,
    check_waivers,
    judge,
)
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.verify import find_changed_evidence, suggest_promotion
from osteo_models.registry.versions import CHALLENGER, CHAMPION, VersionInfo, find_alias, get_version, set_alias

__all__ = [
    "Author",
    "Evidence",
    "Promotion",
    "Rollback",
    "RuleResult",
    "Verdict",
    "Waiver",
    "assess",
    "judge",
    "promote",
]


PINS: Final = (TREE, COMMIT, "dvc.data", "dvc.splits", MANIFEST_TAG)
OTHERWISE: Final = "train a better model, or gather the evidence that is missing"


@dataclass(frozen=True)
class Promotion:
    """A promotion that was granted.

    Attributes:
        replaced: The version that was champion before; None for the first, and where nothing changed.
        changed: Whether the champion was changed: not in a dry run, and not for a version that is champion already, by
            the evidence that it has now.
        would_change: Whether it was, or would have been without `dry_run`.
    """

    name: str
    version: int
    verdict: Verdict
    replaced: int | None
    changed: bool
    would_change: bool
    dry_run: bool


@dataclass(frozen=True)
class Rollback:
    """The champion was taken back to an earlier one."""

    name: str
    version: int
    replaced: int


def promote(
    tracking: Tracking,
    name: str,
    version: int | str | None,
    rules: Sequence[GateRule],
    *,
    journal: Journal,
    author: Author,
    dry_run: bool = False,
    waivers: Sequence[Waiver] = (),
    settings: Settings | None = None,
    data: str = "data",
) -> Promotion:
    """Judge a version and make it champion.

    Args:
        version: Its number or an alias; the challenger where None.
        rules: The gate section of params.yaml.
        journal: Where the promotion or refusal is written down.
        author: Who asks for it.
        dry_run: Judge, and refuse as ever, but change nothing.
        waivers: Rules to set aside where they fail.
        settings: Where the project is, whose repository may hold the version's code, and the images, should the
            champion have to score them.
        data: The data set's path, as in params.yaml.

    Raises:
        InputError: No such model or version, or a waiver without reason or name.
        ParamsError: Unknown rule.
        StaleDataError: A file of the version is not as it was registered, and no rule in force says so.
        StoreError: The store does not answer; nothing was changed, the journal included.
        GateRefused: A rule failed; nothing was changed but the journal, which has the refusal.
        ConflictError: Another process changed the champion meanwhile; nothing was changed.
    """
    check_rules(rules)
    check_waivers(waivers, rules)
    candidate = get_version(tracking, _reference(name, version))
    state = journal.state(name)
    verdict = assess(tracking, candidate, rules, champion=state.champion, waivers=waivers, settings=settings, data=data)
    facts = _describe(candidate, verdict)
    if verdict.verdict != "PROMOTE":
        if not dry_run:
            reason = ", ".join(result.rule for result in verdict.failed)
            journal.append(name, author, [Entry("refusal", candidate.version, reason, facts)])
        raise _refusal(candidate, verdict)
    changed_since = find_changed_evidence(journal, candidate)
    would_change = candidate.version != state.champion or bool(changed_since)
    changed = would_change and not dry_run
    if changed:
        entries = [Entry("waiver", candidate.version, _reason(result), facts) for result in verdict.waived]
        entries.append(Entry("promotion", candidate.version, changed_since, facts))
        journal.append(name, author, entries, expected=state)
        _show_waivers(tracking, candidate, verdict)
    if not dry_run:
        sync_alias(tracking, journal, name)
    replaced = state.champion if would_change else None
    return Promotion(candidate.name, candidate.version, verdict, replaced, changed, would_change, dry_run)


def assess(
    tracking: Tracking,
    candidate: VersionInfo,
    rules: Sequence[GateRule],
    *,
    champion: int | None = None,
    waivers: Sequence[Waiver] = (),
    settings: Settings | None = None,
    data: str = "data",
) -> Verdict:
    """Gather the evidence of a version, beside that of the champion, and judge it; nothing is changed.

    Raises:
        StaleDataError: A file of the version is not as it was registered, and no rule in force says so.
        StoreError: The store does not answer, which is no verdict.
    """
    stored = read_stored_evidence(tracking, candidate)
    comparison: ChampionComparison | None = None
    if champion is not None and champion != candidate.version:
        try:
            present = get_version(tracking, f"{candidate.name}/{champion}")
        except InputError:
            found = "it is no longer in the store; `osteo rollback` goes to the one before"
            comparison = ChampionComparison(champion, missing_evidence=found)
        else:
            other = read_stored_evidence(tracking, present)
            comparison = compare_with_champion(tracking, stored, present, other, settings=settings, data=data)
    evidence = complete_evidence(tracking, candidate, stored, comparison, settings.root if settings else None)
    verdict = judge(evidence, rules, waivers)
    if evidence.changes and verdict.verdict == "PROMOTE":  # files_intact is not in params.yaml, or was waived
        raise StaleDataError(", ".join(evidence.changes), where=candidate.uri, remedy=REMEDY)
    return verdict


def rollback(tracking: Tracking, name: str, *, journal: Journal, author: Author, reason: str = "") -> Rollback:
    """Make the champion before the present one champion again; it was judged when it was promoted.

    Raises:
        InputError: There was none before, or it is no longer in the store.
        StaleDataError: Its evidence is no longer that which it was promoted on.
        ConflictError: Another process changed the champion meanwhile; nothing was changed.
    """
    state = journal.state(name)
    before = previous_champion(journal.history(name))
    if before is None or state.champion is None:
        found = "there is no champion" if state.champion is None else "there was no champion before this one"
        raise InputError(found, where=name, remedy="`osteo history NAME` shows what there was")
    target = get_version(tracking, f"{name}/{before}")
    if fault := find_changed_evidence(journal, target):
        raise StaleDataError(fault, where=f"{name} version {before}", remedy=suggest_promotion(target))
    journal.append(name, author, [Entry("rollback", before, reason, _pin(target))], expected=state)
    sync_alias(tracking, journal, name)
    return Rollback(name, before, state.champion)


def sync_alias(tracking: Tracking, journal: Journal, name: str) -> None:
    """Point the alias at the journal's champion, again where the journal moved on meanwhile."""
    while True:
        champion = journal.state(name).champion
        if champion is not None and find_alias(tracking, name, CHAMPION) != champion:
            set_alias(tracking, name, CHAMPION, champion)
        if journal.state(name).champion == champion:
            break
    if champion is not None:
        _show_champion(tracking, name, champion, previous_champion(journal.history(name)))


def _reference(name: str, version: int | str | None) -> str:
    if version is None:
        return f"{name}@{CHALLENGER}"
    return f"{name}/{version}" if str(version).isdigit() else f"{name}@{str(version).removeprefix('@')}"


def _describe(candidate: VersionInfo, verdict: Verdict) -> dict[str, Any]:
    """What the journal keeps of a judgement: hashes, rules and figures; no rule names a patient."""
    results = [
        {"rule": result.rule, "passed": result.passed, "found": result.found, "needed": result.needed}
        | ({"waived_by": result.waiver.by, "reason": result.waiver.reason} if result.waiver else {})
        | ({} if result.applies else {"applies": False})
        for result in verdict.results
    ]
    return {"verdict": verdict.verdict, **_pin(candidate), "rules": results}


def _pin(version: VersionInfo) -> dict[str, str]:
    """What identifies a version; the manifest's hash stands for all its files, tags and metrics."""
    tags = {name: version.tags[name] for name in PINS if name in version.tags}
    return {"weights": version.sha256, "job": version.job, **tags}


def _reason(result: RuleResult) -> str:
    return f"{result.rule}: {result.waiver.reason} ({result.waiver.by})" if result.waiver else ""


def _show_waivers(tracking: Tracking, candidate: VersionInfo, verdict: Verdict) -> None:
    """Keep waivers in sight at the end of the version's card."""
    if not verdict.waived:
        return
    with tracking.writing():
        number = str(candidate.version)
        card = tracking.client.get_model_version(candidate.name, number).description or ""
        noted = add_waivers(card, map(_reason, verdict.waived))
        tracking.client.update_model_version(candidate.name, number, noted)


def _show_champion(tracking: Tracking, name: str, champion: int, before: int | None) -> None:
    """Say on the registered model's page which version is champion, and which was before it."""
    with tracking.writing():
        shown = tracking.client.get_registered_model(name).description or ""
        wanted = describe_champion(shown, name, champion, before)
        if wanted != shown:
            tracking.client.update_registered_model(name, wanted)


def _refusal(candidate: VersionInfo, verdict: Verdict) -> GateRefused:
    faults = "; ".join(f"{result.rule}: found {result.found}, needed {result.needed}" for result in verdict.failed)
    where = candidate.title
    remedies = dict.fromkeys(result.remedy or OTHERWISE for result in verdict.failed)
    remedy = "; ".join(["the champion stays", *remedies])
    refusal = GateRefused(f"{verdict.verdict}: {faults}", where=where, remedy=remedy)
    refusal.verdict = verdict
    return refusal
