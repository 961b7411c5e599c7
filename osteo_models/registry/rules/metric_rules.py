"""Rules on the metrics of a version: high enough with certainty, an interval, enough patients, in every subgroup.

Cross-validation by patient tests nearly a hundred people or more, so the lower end of its interval decides. A hold-out
of a dozen people can only veto, where even the upper end is below the floor. In between, the data cannot decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, cast

from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.params import GateRule
from osteo_models.core.terms import Stage, metric_prefix
from osteo_models.registry.rules.results import Evidence, Outcome, Row, Rule, RuleResult, combine, failed, passed

GROUPS: Final = "evaluation/groups.csv"
BOUNDS: Final = ("low", "point", "high")
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"low": "lower end of the interval of ", "point": "", "high": "upper end of the interval of "}
)
ROUNDING: Final = 1e-9  # a smaller distance from a floor is none
ERROR: Final = 0.05  # chance of a false refusal over all groups of a version together


def check_minimum(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Every listed stage that the version took part in reaches `value` in `metric`.

    `bound: low` (the default) decides by the interval: its lower end reaches the value, or its upper end does not, or
    the data cannot decide. `high` fails only where the upper end does not reach it. `point` takes the estimate alone.
    """
    least, bound = rule.value or 0.0, rule.bound or "low"
    needed = f"{NAMES[bound]}{rule.metric} of at least {least:g}"
    parts = [str(rule.metric), f"{rule.metric}.ci_low", f"{rule.metric}.ci_high", "n_patients"]
    found = dict(_collect(evidence, rule, parts))
    if not found:
        return _no_stage(evidence, rule, needed)
    outcomes = {stage: compare_bound(values, least, bound) for stage, values in found.items()}
    return combine(rule, outcomes, needed)


def compare_bound(
    values: Sequence[float | None], least: float, bound: Literal["low", "point", "high"]
) -> tuple[Outcome, str]:
    """Compare an estimate with a floor.

    Args:
        values: The estimate, the ends of its interval and the number of patients; None where undefined.
        least: The floor.
        bound: What decides, see `check_minimum`.

    Returns:
        The outcome, and the figures with what follows from them.
    """
    value, low, high, patients = values
    if bound == "point":
        return ("unknown" if value is None else "holds" if value >= least else "fails"), _number(value)
    if value is None or low is None or high is None:
        why = f"{_number(value)} without an interval: an interval needs 5 patients of each class"
        return ("holds", f"{why}; no veto without one") if bound == "high" and value is not None else ("unknown", why)
    shown = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    if high < least:
        return "fails", shown
    if bound == "high" or low >= least:
        return "holds", shown
    return "unknown", f"{shown}: {describe_missing(value - least, value - low, patients)}"


def describe_missing(distance: float, half: float, patients: float | None) -> str:
    """How many patients would decide, if the estimate stayed: an interval narrows with the root of their number.

    Args:
        distance: Of the estimate above the floor.
        half: Of the interval, from the estimate to the end that faces the floor.
        patients: That the interval rests on.
    """
    if distance <= ROUNDING:
        return "at this estimate no number of patients would show it"
    if not patients:
        return "more patients are needed"
    return f"about {math.ceil(patients * (half / distance) ** 2):d} patients would decide at this estimate"


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
        return failed(rule, ", ".join(holes), needed, missing_evidence=True)
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
    return failed(rule, shown, needed, missing_evidence=True) if few else passed(rule, shown, needed)


def check_subgroups(evidence: Evidence, rule: GateRule) -> RuleResult:
    """No subgroup (sex, age band, scanner, ...) of the listed stages has `metric` under `value` beyond doubt.

    A group fails where even the upper end of its interval, widened for the number of groups (Bonferroni), is below the
    value: with a dozen small groups one is low by chance. Groups too small for an interval are counted.
    """
    least = rule.value or 0.0
    needed = f"{rule.metric} of at least {least:g} within the interval of every subgroup"
    if evidence.groups is None:
        return failed(rule, evidence.why_not(GROUPS), needed, missing_evidence=True)
    rows = list(_group_rows(evidence.groups, evidence, rule))
    judged = [row for row in rows if _has_interval(row)]
    if not judged:
        return failed(rule, f"no subgroup with an interval in {', '.join(rule.stages)}", needed, missing_evidence=True)
    worst = min((widen_upper(row, len(judged)), float(row["value"]), _name_group(row)) for row in judged)
    upper, value, where = worst
    blank = len(rows) - len(judged)
    shown = f"worst of {len(judged)} is {where} with {value:.3f}, at most {upper:.3f} allowing for {len(judged)} groups"
    shown += f", {blank} too small to judge" if blank else ""
    return passed(rule, shown, needed) if upper >= least else failed(rule, shown, needed)


def widen_upper(row: Row, groups: int) -> float:
    """The upper end of a group's interval for `groups` groups at once.

    The distance of the 95 % interval's upper end, on the scale of the arcsine of the root, is scaled from Student's
    quantile of one group to that of all groups, with the group's patients minus one as degrees of freedom.

    Source:
        Bonferroni: each of m groups is judged at 1 - 0.05 / m.
    """
    student = cast(Any, special)
    freedom = max(float(row["n_patients"]) - 1, 1)
    wanted, had = (float(student.stdtrit(freedom, level)) for level in (1 - ERROR / groups, 0.975))
    middle, upper = (math.asin(math.sqrt(float(row[name]))) for name in ("value", "ci_high"))
    return math.sin(min(math.pi / 2, middle + (upper - middle) * wanted / had)) ** 2


def _group_rows(rows: Sequence[Row], evidence: Evidence, rule: GateRule) -> Iterator[Row]:
    wanted = (evidence.architecture, evidence.images, "patient", rule.metric)
    for row in rows:
        if row["stage"] in rule.stages and _identity(row) == wanted:
            yield row


def _identity(row: Row) -> tuple[str, ...]:
    return row["architecture"], row["images"], row["protocol"], row["metric"]


def _name_group(row: Row) -> str:
    return f"{row['stage']} {row['by']} {row['group']}"


def _has_interval(row: Row) -> bool:
    return all(row[name] and math.isfinite(float(row[name])) for name in ("value", "ci_high", "n_patients"))


def _collect(evidence: Evidence, rule: GateRule, parts: Sequence[str]) -> Iterator[tuple[Stage, list[float | None]]]:
    """The stages of a rule that the version took part in under the patient protocol, with the requested values."""
    for stage in rule.stages:
        if evidence.took_part(stage):
            yield stage, find_values(evidence, stage, parts)


def find_values(evidence: Evidence, stage: Stage, parts: Sequence[str]) -> list[float | None]:
    """Metrics of a stage under the patient protocol; None for what is not there, or is not a number."""
    values = [evidence.metrics.get(f"{metric_prefix(stage, 'patient')}.{part}") for part in parts]
    return [None if value is None or math.isnan(value) else value for value in values]


def _no_stage(evidence: Evidence, rule: GateRule, needed: str) -> RuleResult:
    by_image = any(evidence.took_part(stage, "image") for stage in rule.stages)
    found = "only the image protocol, which never promotes" if by_image else "no metrics"
    return failed(
        rule, f"{found} in {', '.join(rule.stages)}", f"{needed} under the patient protocol", missing_evidence=True
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "minimum": Rule(check_minimum, ("stages", "metric", "value"), bounds=BOUNDS),
        "interval": Rule(check_interval, ("stages", "metric")),
        "patients": Rule(check_patients, ("stages", "value")),
        "subgroups": Rule(check_subgroups, ("stages", "metric", "value")),
    }
)
