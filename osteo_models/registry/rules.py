"""The promotion rules: each one pure function from evidence and its entry in params.yaml to a result.

A new rule is a function here and a line in `RULES`. Only the patient protocol counts anywhere: images of one patient
on both sides of a split make the image protocol flatter the model. Rules that compare a version with the champion
(paired tests on the same images) read `Evidence.champion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from osteo_models.errors import ParamsError
from osteo_models.params import GateRule
from osteo_models.terms import Stage, metric_prefix

Decision = Literal["PROMOTE", "REJECT", "NOT_ENOUGH_EVIDENCE"]


@dataclass(frozen=True)
class Evidence:
    """What is known of a version.

    Attributes:
        metrics: Of all stages, such as `stage_1.patient.balanced_accuracy.ci_low`.
        champion: The present champion's metrics; None where there is no champion, or it is this version.
    """

    metrics: Mapping[str, float]
    champion: Mapping[str, float] | None = None


@dataclass(frozen=True)
class RuleResult:
    """What a rule found.

    Attributes:
        rule: The rule's name with its metric and stages, so that two entries of one rule differ.
        found: Per stage, or what is missing.
        lacking: It failed for want of evidence, not because of it.
    """

    rule: str
    passed: bool
    found: str
    needed: str
    why: str
    lacking: bool = False


@dataclass(frozen=True)
class Verdict:
    """The gate's answer with every rule's result."""

    verdict: Decision
    results: tuple[RuleResult, ...]

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that stand in the way."""
        return tuple(result for result in self.results if not result.passed)


Rule = Callable[[Evidence, GateRule], RuleResult]


def check_minimum(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in reaches `value` in `metric`."""
    least = rule.value or 0.0
    found = {stage: values[0] for stage, values in _collect(evidence, rule, [str(rule.metric)])}
    needed = f"{rule.metric} of at least {least:g}"
    if not found:
        return _lacking(evidence, rule, needed)
    low = {stage: value for stage, value in found.items() if value is None or not value >= least}
    shown = ", ".join(f"{stage} {_number(value)}" for stage, value in found.items())
    lacking = bool(low) and all(value is None for value in low.values())
    why = f"{shown}; needed {needed}" if not low else f"{', '.join(low)} below: {shown}; needed {needed}"
    return RuleResult(_title(rule), not low, shown, needed, why, lacking)


def check_interval(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in has an interval of `metric` and the number of images."""
    parts = [f"{rule.metric}.ci_low", f"{rule.metric}.ci_high", "n"]
    found = dict(_collect(evidence, rule, parts))
    needed = f"{', '.join(parts)} of each stage"
    if not found:
        return _lacking(evidence, rule, needed)
    holes = [
        f"{stage} has no {part}"
        for stage, values in found.items()
        for part, value in zip(parts, values, strict=True)
        if value is None
    ]
    shown = ", ".join(holes) or f"all of {', '.join(found)}"
    return RuleResult(_title(rule), not holes, shown, needed, f"found {shown}; needed {needed}", bool(holes))


def check_patients(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in tested at least `value` patients."""
    least = rule.value or 0.0
    found = {stage: values[0] for stage, values in _collect(evidence, rule, ["n_patients"])}
    needed = f"at least {least:g} patients in each stage"
    if not found:
        return _lacking(evidence, rule, needed)
    few = [stage for stage, count in found.items() if count is None or count < least]
    shown = ", ".join(f"{stage} {'unknown' if count is None else f'{count:g}'}" for stage, count in found.items())
    why = f"{shown}; needed {needed}" if not few else f"too few in {', '.join(few)}: {shown}; needed {needed}"
    return RuleResult(_title(rule), not few, shown, needed, why, bool(few))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {"minimum": check_minimum, "interval": check_interval, "patients": check_patients}
)
# What a rule must be given beside its stages.
NEEDS: Final[Mapping[str, tuple[Literal["metric", "value"], ...]]] = MappingProxyType(
    {"minimum": ("metric", "value"), "interval": ("metric",), "patients": ("value",)}
)


def check_rules(rules: Sequence[GateRule]) -> None:
    """See that every entry names a rule and gives what it needs.

    Raises:
        ParamsError: Listing every fault.
    """
    faults: list[str] = []
    for position, rule in enumerate(rules):
        if rule.rule not in RULES:
            faults.append(f"gate.{position}.rule: unknown rule {rule.rule!r}")
        for name in NEEDS.get(rule.rule, ()):
            if getattr(rule, name) is None:
                faults.append(f"gate.{position}.{name}: missing, rule {rule.rule!r} needs it")
    if not rules:
        faults.append("gate: no rules, so nothing could be refused")
    if faults:
        allowed = f"rules {', '.join(sorted(RULES))}"
        raise ParamsError("; ".join(faults), where="params.yaml", allowed=allowed, remedy="mend the gate section")


def judge(evidence: Evidence | Mapping[str, float], rules: Sequence[GateRule]) -> Verdict:
    """Apply every rule.

    Args:
        evidence: What is known of the version; bare metrics stand for themselves.
        rules: The gate section of params.yaml.

    Returns:
        PROMOTE if all rules hold; NOT_ENOUGH_EVIDENCE if rules failed only because something is not known.

    Raises:
        ParamsError: Unknown rule, or one that is not given what it needs.
    """
    check_rules(rules)
    known = evidence if isinstance(evidence, Evidence) else Evidence(evidence)
    results = tuple(RULES[rule.rule](known, rule) for rule in rules)
    failed = [result for result in results if not result.passed]
    if not failed:
        return Verdict("PROMOTE", results)
    return Verdict("NOT_ENOUGH_EVIDENCE" if all(result.lacking for result in failed) else "REJECT", results)


def _collect(evidence: Evidence, rule: GateRule, parts: Sequence[str]) -> Iterator[tuple[Stage, list[float | None]]]:
    """The stages of a rule that the version took part in under the patient protocol, with the asked values."""
    for stage in rule.stages:
        prefix = f"{metric_prefix(stage, 'patient')}."
        if any(name.startswith(prefix) for name in evidence.metrics):
            yield stage, [evidence.metrics.get(prefix + part) for part in parts]


def _lacking(evidence: Evidence, rule: GateRule, needed: str) -> RuleResult:
    stages = ", ".join(rule.stages)
    by_image = any(
        name.startswith(f"{metric_prefix(stage, 'image')}.") for stage in rule.stages for name in evidence.metrics
    )
    found = "only the image protocol, which never promotes" if by_image else "no metrics"
    why = f"found {found} in {stages}; needed {needed} under the patient protocol"
    return RuleResult(_title(rule), False, found, needed, why, lacking=True)


def _title(rule: GateRule) -> str:
    return " ".join(part for part in (rule.rule, rule.metric or "", f"({', '.join(rule.stages)})") if part)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
