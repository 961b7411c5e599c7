"""Rules on the numbers of a version: high enough, with an interval, from enough patients, in every subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from osteo_models.params import GateRule
from osteo_models.registry.rules.evidence import Evidence, Row, Rule, RuleResult, failed, passed
from osteo_models.terms import Stage, metric_prefix

GROUPS: Final = "evaluation/groups.csv"


def check_minimum(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in reaches `value` in `metric`; `interval`: with its lower end."""
    least = rule.value or 0.0
    part = f"{rule.metric}.ci_low" if rule.test == "interval" else str(rule.metric)
    found = {stage: values[0] for stage, values in _collect(evidence, rule, [part])}
    what = f"lower end of the interval of {rule.metric}" if rule.test == "interval" else str(rule.metric)
    needed = f"{what} of at least {least:g}"
    if not found:
        return _no_stage(evidence, rule, needed)
    low = [value for value in found.values() if value is None or not value >= least]
    shown = ", ".join(f"{stage} {_number(value)}" for stage, value in found.items())
    if not low:
        return passed(rule, shown, needed)
    return failed(rule, shown, needed, lacking=all(value is None for value in low))


def check_interval(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in has `metric` within its interval, and the number of images."""
    parts = [f"{rule.metric}.ci_low", f"{rule.metric}.ci_high", "n", str(rule.metric)]
    found = dict(_collect(evidence, rule, parts))
    needed = f"{rule.metric} within its interval and n in each stage"
    if not found:
        return _no_stage(evidence, rule, needed)
    holes = [
        f"{stage} has no {part}"
        for stage, values in found.items()
        for part, value in zip(parts, values, strict=True)
        if value is None
    ]
    if holes:
        return failed(rule, ", ".join(holes), needed, lacking=True)
    wrong = [
        f"{stage} {value:.3f} with [{low:.3f}, {high:.3f}] and n {count:g}"
        for stage, (low, high, count, value) in found.items()
        if low is not None and high is not None and count is not None and value is not None
        if not (low <= value <= high and count >= 1)
    ]
    if wrong:
        return failed(rule, ", ".join(wrong), needed)
    return passed(rule, f"all of {', '.join(found)}", needed)


def check_patients(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in tested at least `value` patients."""
    least = rule.value or 0.0
    found = {stage: values[0] for stage, values in _collect(evidence, rule, ["n_patients"])}
    needed = f"at least {least:g} patients in each stage"
    if not found:
        return _no_stage(evidence, rule, needed)
    few = [stage for stage, count in found.items() if count is None or count < least]
    shown = ", ".join(f"{stage} {'unknown' if count is None else f'{count:g}'}" for stage, count in found.items())
    return failed(rule, shown, needed, lacking=True) if few else passed(rule, shown, needed)


def check_subgroups(evidence: Evidence, rule: GateRule) -> RuleResult:
    """No subgroup (sex, age band, scanner, ...) of the listed stages has `metric` under `value`.

    Groups of too few patients have no number in the table, and are counted.
    """
    least = rule.value or 0.0
    needed = f"{rule.metric} of at least {least:g} in every subgroup"
    if evidence.groups is None:
        return failed(rule, evidence.why_not(GROUPS), needed, lacking=True)
    rows = list(_group_rows(evidence.groups, evidence, rule))
    known = [(float(row["value"]), f"{row['stage']} {row['by']} {row['group']}") for row in rows if _is_number(row)]
    if not known:
        return failed(rule, f"no subgroup with a number in {', '.join(rule.stages)}", needed, lacking=True)
    worst, where = min(known)
    blank = len(rows) - len(known)
    shown = f"worst of {len(known)} is {where} with {worst:.3f}" + (f", {blank} too small to judge" if blank else "")
    return passed(rule, shown, needed) if worst >= least else failed(rule, shown, needed)


def _group_rows(rows: Sequence[Row], evidence: Evidence, rule: GateRule) -> Iterator[Row]:
    mine = (evidence.architecture, evidence.images, "patient", rule.metric)
    for row in rows:
        if row["stage"] in rule.stages and _identity(row) == mine:
            yield row


def _identity(row: Row) -> tuple[str, ...]:
    return row["architecture"], row["images"], row["protocol"], row["metric"]


def _is_number(row: Row) -> bool:
    return bool(row["value"]) and math.isfinite(float(row["value"])) and not row.get("note", "").startswith("too few")


def _collect(evidence: Evidence, rule: GateRule, parts: Sequence[str]) -> Iterator[tuple[Stage, list[float | None]]]:
    """The stages of a rule that the version took part in under the patient protocol, with the asked values."""
    for stage in rule.stages:
        if evidence.took_part(stage):
            prefix = f"{metric_prefix(stage, 'patient')}."
            yield stage, [evidence.metrics.get(prefix + part) for part in parts]


def _no_stage(evidence: Evidence, rule: GateRule, needed: str) -> RuleResult:
    by_image = any(evidence.took_part(stage, "image") for stage in rule.stages)
    found = "only the image protocol, which never promotes" if by_image else "no metrics"
    return failed(rule, f"{found} in {', '.join(rule.stages)}", f"{needed} under the patient protocol", lacking=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "minimum": Rule(check_minimum, ("stages", "metric", "value"), ("point", "interval")),
        "interval": Rule(check_interval, ("stages", "metric")),
        "patients": Rule(check_patients, ("stages", "value")),
        "subgroups": Rule(check_subgroups, ("stages", "metric", "value")),
    }
)
