"""The promotion rules: each one pure function from evidence and its entry in params.yaml to a result.

A new rule is a function and a line in the `RULES` of the file that it belongs to, and an entry in params.yaml. Only the
patient protocol counts anywhere: images of one patient on both sides of a split make the image protocol flatter the
model. What is not known is NOT_ENOUGH_EVIDENCE: neither a pass nor a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from osteo_models.core.errors import InputError, ParamsError
from osteo_models.core.params import GateRule
from osteo_models.registry.rules import comparison_rules, metric_rules, provenance_rules
from osteo_models.registry.rules.results import (
    ChampionComparison,
    Decision,
    Evidence,
    Rule,
    RuleResult,
    Verdict,
    Waiver,
    not_applicable,
    title,
    waive,
)

__all__ = [
    "RULES",
    "ChampionComparison",
    "Decision",
    "Evidence",
    "Rule",
    "RuleResult",
    "Verdict",
    "Waiver",
    "check_rules",
    "check_waivers",
    "judge",
]

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {**metric_rules.RULES, **provenance_rules.RULES, **comparison_rules.RULES}
)


def check_rules(rules: Sequence[GateRule]) -> None:
    """See that every entry names a rule and gives what it needs.

    Raises:
        ParamsError: Listing every fault.
    """
    faults = [fault for position, rule in enumerate(rules) for fault in _rule_faults(f"gate.{position}", rule)]
    if not rules:
        faults.append("gate: no rules, so nothing could be refused")
    if faults:
        allowed = f"rules {', '.join(sorted(RULES))}"
        raise ParamsError("; ".join(faults), where="params.yaml", allowed=allowed, remedy="correct the gate section")


def _rule_faults(where: str, rule: GateRule) -> Iterator[str]:
    if rule.rule not in RULES:
        yield f"{where}.rule: unknown rule {rule.rule!r}"
        return
    known = RULES[rule.rule]
    for name in known.needs:
        if getattr(rule, name) in (None, ()):
            yield f"{where}.{name}: missing, rule {rule.rule!r} needs it"
    for name, options in (("test", known.tests), ("bound", known.bounds)):
        given = getattr(rule, name)
        if given is not None and given not in options:
            allowed = " or ".join(options) or "nothing"
            yield f"{where}.{name}: {given!r}, allowed for rule {rule.rule!r}: {allowed}"


def check_waivers(waivers: Sequence[Waiver], rules: Sequence[GateRule]) -> None:
    """See that every waiver names a rule of the gate, gives a reason and says who answers for it.

    Raises:
        InputError: It does not.
    """
    names = {rule.rule for rule in rules} | {title(rule) for rule in rules}
    for waiver in waivers:
        if waiver.rule not in names:
            allowed = ", ".join(sorted({rule.rule for rule in rules}))
            raise InputError(f"no rule {waiver.rule!r} in the gate", where="--waive", allowed=allowed)
        for option, text in (("--reason", waiver.reason), ("--by", waiver.by)):
            if not text.strip():
                remedy = "a waiver stays visible with its reason and the name of who answers for it"
                raise InputError(f"rule {waiver.rule!r} waived without {option}", where="--waive", remedy=remedy)


def judge(
    evidence: Evidence | Mapping[str, float], rules: Sequence[GateRule], waivers: Sequence[Waiver] = ()
) -> Verdict:
    """Apply every rule.

    Args:
        evidence: What is known of the version; bare metrics stand for themselves.
        rules: The gate section of params.yaml.
        waivers: Rules to set aside where they fail.

    Returns:
        PROMOTE if all rules hold; NOT_ENOUGH_EVIDENCE if rules failed only because something is not known.

    Raises:
        ParamsError: Unknown rule, or one that is not given what it needs.
        InputError: A waiver without its reason or name, or of no rule.
    """
    check_rules(rules)
    check_waivers(waivers, rules)
    known = evidence if isinstance(evidence, Evidence) else Evidence(evidence)
    results = tuple(waive(_apply(known, rule), rule, waivers) for rule in rules)
    blocking = [result for result in results if result.blocks]
    if not blocking:
        return Verdict("PROMOTE", results)
    return Verdict("NOT_ENOUGH_EVIDENCE" if all(result.missing_evidence for result in blocking) else "REJECT", results)


def _apply(evidence: Evidence, rule: GateRule) -> RuleResult:
    profile = evidence.tags.get("profile", "")
    if rule.profiles and profile not in rule.profiles:
        asked = ", ".join(rule.profiles)
        return not_applicable(rule, f"asked of profile {asked} only, and this version is of {profile or 'none'}")
    return RULES[rule.rule].check(evidence, rule)
