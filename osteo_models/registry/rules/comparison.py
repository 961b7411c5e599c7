"""Rules that set a version beside something else: age alone as a predictor, and the present champion."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from osteo_models.errors import InputError
from osteo_models.evaluation.contest import PairedDifference, compare_pair
from osteo_models.params import GateRule
from osteo_models.registry.rules.evidence import (
    Evidence,
    Rival,
    Row,
    Rule,
    RuleResult,
    failed,
    not_applicable,
    passed,
)
from osteo_models.terms import Stage, metric_prefix

SHORTCUTS: Final = "evaluation/shortcuts.csv"


def check_age_alone(evidence: Evidence, rule: GateRule) -> RuleResult:
    """In each listed stage `metric` exceeds that of age alone, as trained on the same people, by more than `value`.

    `interval`: the lower end of the version's own interval does. Age alone is a logistic regression of the audits.
    """
    margin = rule.value or 0.0
    part = f"{rule.metric}.ci_low" if rule.test == "interval" else str(rule.metric)
    needed = f"{rule.metric}{' (lower end)' if rule.test == 'interval' else ''} above that of age alone"
    needed += f" by {margin:g}" if margin else ""
    if evidence.shortcuts is None:
        return failed(rule, evidence.why_not(SHORTCUTS), needed, lacking=True)
    shown, holds, known = list[str](), True, True
    for stage in rule.stages:
        own = evidence.metrics.get(f"{metric_prefix(stage, 'patient')}.{part}")
        age = _find_age(evidence, stage, str(rule.metric))
        shown.append(f"{stage} {_number(own)} against {_number(age)} of age alone")
        if own is None or age is None:
            known = False
        else:
            holds = holds and own > age + margin
    if not holds:
        return failed(rule, ", ".join(shown), needed)
    return passed(rule, ", ".join(shown), needed) if known else failed(rule, ", ".join(shown), needed, lacking=True)


def _find_age(evidence: Evidence, stage: Stage, metric: str) -> float | None:
    images = "combined" if evidence.images == "multimodal" else evidence.images
    tested = evidence.predictions.get((stage, "patient"))
    wanted = ("age", images, tested.validation if tested else "", metric)
    for row in evidence.shortcuts or ():
        if _identity(row) == wanted:
            return float(row["value"]) if row["value"] else None
    return None


def _identity(row: Row) -> tuple[str, ...]:
    return row["predictor"], row["images"], row["validation"], row["metric"]


def check_champion(evidence: Evidence, rule: GateRule) -> RuleResult:
    """Beside the champion on the same images: better (superiority), or not worse by `value` (non_inferiority).

    Both intervals of the difference of the areas count, DeLong's on patients and the bootstrap's of patients. The
    champion is the worse of the two only where the whole of one interval says so; in between, the test set is too
    small to tell, and the smallest difference that it could have shown stands beside it.
    """
    margin = rule.value or 0.0
    superior = rule.test == "superiority"
    bound = 0.0 if superior else -margin
    aim = "better than the champion" if superior else f"not worse than the champion by {margin:g}"
    needed = f"{aim} in the area under the ROC curve, both intervals above {bound:g}"
    rival = evidence.rival
    if rival is None:
        return not_applicable(rule, "there is no other champion")
    stages: list[Stage] = [stage for stage in rule.stages if stage in rival.scores]
    stages = stages or (list(rival.scores) if rival.rescored else [])
    if not stages:
        why = rival.lacking or f"no image of {', '.join(rule.stages)} that both have scored"
        return failed(rule, f"champion version {rival.version}: {why}", needed, lacking=True)
    shown, outcomes = list[str](), list[str]()
    for stage in stages:
        try:
            difference = compare_pair(rival.scores[stage])
        except InputError as error:
            shown.append(f"{stage}: {error.found}")
            outcomes.append("unknown")
            continue
        shown.append(_describe(stage, difference, rival))
        outcomes.append(_decide(difference, bound, superior=superior))
    found = f"champion version {rival.version}: {'; '.join(shown)}"
    if all(outcome == "holds" for outcome in outcomes):
        return passed(rule, found, needed)
    return failed(rule, found, needed, lacking="worse" not in outcomes)


def _decide(difference: PairedDifference, bound: float, *, superior: bool) -> str:
    intervals = [difference.delong, difference.bootstrap]
    if any(high < 0 or (superior and high <= 0) for _, high in filter(None, intervals)):
        return "worse"
    if all(interval is not None and interval[0] > bound for interval in intervals):
        return "holds"
    return "unknown"


def _describe(stage: Stage, found: PairedDifference, rival: Rival) -> str:
    matched = f"{found.n} of {rival.images.get(stage, found.n)} images, {found.n_patients} patients"
    parts = [
        f"{stage} area {found.auc_first:.3f} against {found.auc_second:.3f} on {matched}",
        f"difference {found.difference:+.3f} {_interval(found.delong)} by patient",
        f"{found.image_difference:+.3f} {_interval(found.bootstrap)} by image",
    ]
    least = f"{found.detectable:.3f}" if found.detectable is not None else "undefined"
    parts.append(f"smallest difference that it could have shown {least}")
    if rival.rescored:
        parts.append("the champion was scored again: its predictions are of other data")
    return ", ".join(parts)


def _interval(found: tuple[float, float] | None) -> str:
    return "[undefined]" if found is None else f"[{found[0]:+.3f}, {found[1]:+.3f}]"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "age_alone": Rule(check_age_alone, ("stages", "metric"), ("point", "interval")),
        "champion": Rule(check_champion, ("stages",), ("non_inferiority", "superiority")),
    }
)
