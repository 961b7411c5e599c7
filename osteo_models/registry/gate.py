"""Promotion: a version becomes `champion` if every rule of params.yaml holds, and in no other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from osteo_models.errors import GateRefused
from osteo_models.params import GateRule
from osteo_models.registry.rules import Evidence, RuleResult, Verdict, check_rules, judge
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import CHALLENGER, CHAMPION, VersionInfo, get_version, list_versions, set_alias

__all__ = ["Evidence", "Promotion", "RuleResult", "Verdict", "judge", "promote"]


@dataclass(frozen=True)
class Promotion:
    """A promotion that was granted.

    Attributes:
        replaced: The version that was champion before; None for the first, and where nothing changed.
        changed: Whether the alias was moved: not in a dry run, and not for a version that is champion already.
    """

    name: str
    version: int
    verdict: Verdict
    replaced: int | None
    changed: bool
    dry_run: bool


def promote(
    tracking: Tracking, name: str, version: int | str | None, rules: Sequence[GateRule], *, dry_run: bool = False
) -> Promotion:
    """Judge a version and make it champion.

    Args:
        tracking: The store.
        name: Of the registered model.
        version: Its number or an alias; the challenger where None.
        rules: The gate section of params.yaml.
        dry_run: Judge, and refuse as ever, but change nothing.

    Raises:
        InputError: No such model or version.
        ParamsError: Unknown rule.
        GateRefused: A rule failed; nothing was changed.
    """
    check_rules(rules)
    with tracking.writing():  # nobody else in this process moves the alias between judging and setting it
        candidate = get_version(tracking, _reference(name, version))
        champion = _find_champion(tracking, name)
        rival = champion if champion and champion.version != candidate.version else None
        verdict = judge(Evidence(candidate.metrics, rival.metrics if rival else None), rules)
        if verdict.verdict != "PROMOTE":
            raise _refusal(candidate, verdict)
        changed = not dry_run and (champion is None or rival is not None)
        if changed:
            set_alias(tracking, candidate.name, CHAMPION, candidate.version)
    return Promotion(
        candidate.name, candidate.version, verdict, rival.version if rival else None, changed, dry_run=dry_run
    )


def _reference(name: str, version: int | str | None) -> str:
    if version is None:
        return f"{name}@{CHALLENGER}"
    return f"{name}/{version}" if str(version).isdigit() else f"{name}@{str(version).removeprefix('@')}"


def _find_champion(tracking: Tracking, name: str) -> VersionInfo | None:
    return next((found for found in list_versions(tracking, name) if CHAMPION in found.aliases), None)


def _refusal(candidate: VersionInfo, verdict: Verdict) -> GateRefused:
    faults = "; ".join(f"{result.rule}: found {result.found}, needed {result.needed}" for result in verdict.failed)
    where = f"{candidate.name} version {candidate.version}"
    remedy = "the champion stays; train a better model, or gather the evidence that is missing"
    refusal = GateRefused(f"{verdict.verdict}: {faults}", where=where, remedy=remedy)
    refusal.verdict = verdict
    return refusal
