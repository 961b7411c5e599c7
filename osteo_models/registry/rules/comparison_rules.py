"""Rules that set a version beside something else: age alone as a predictor, and the present champion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from osteo_models.core.errors import InputError
from osteo_models.core.params import GateRule
from osteo_models.core.terms import Stage
from osteo_models.evaluation.paired import FEWEST_PATIENTS, PairedDifference, compare_pair
from osteo_models.registry.rules.metric_rules import BOUNDS, NAMES, compare_bound, describe_missing, find_values
from osteo_models.registry.rules.results import (
    ChampionComparison,
    Evidence,
    Outcome,
    Row,
    Rule,
    RuleResult,
    combine,
    failed,
    not_applicable,
)

SHORTCUTS: Final = "evaluation/shortcuts.csv"


def check_age_alone(evidence: Evidence, rule: GateRule) -> RuleResult:
    """In each listed stage `metric` exceeds that of age alone, as trained on the same people, by more than `value`.

    `bound` says which end of the version's own interval is compared, as in `minimum`. Age alone is a logistic
    regression of the audits.
    """
    margin, bound = rule.value or 0.0, rule.bound or "low"
    needed = f"{NAMES[bound]}{rule.metric} above that of age alone" + (f" by {margin:g}" if margin else "")
    if evidence.shortcuts is None:
        return failed(rule, evidence.why_not(SHORTCUTS), needed, missing_evidence=True)
    outcomes = dict[Stage, tuple[Outcome, str]]()
    for stage in rule.stages:
        parts = (str(rule.metric), f"{rule.metric}.ci_low", f"{rule.metric}.ci_high", "n_patients")
        values = find_values(evidence, stage, parts)
        age = _find_age(evidence, stage, str(rule.metric))
        least = math.inf if age is None else math.nextafter(age + margin, math.inf)  # above, not equal
        outcome, shown = ("unknown", _number(values[0])) if age is None else compare_bound(values, least, bound)
        outcomes[stage] = outcome, f"{shown} against {_number(age)} of age alone"
    return combine(rule, outcomes, needed)


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

    Both intervals of the difference of the areas count, DeLong's on patients and that of the images. The
    champion is the worse of the two only where the whole of one interval says so; in between, the test set is too
    small to decide, and the message names the smallest difference that it could have shown.
    """
    margin = rule.value or 0.0
    superior = rule.test == "superiority"
    bound = 0.0 if superior else -margin
    aim = "better than the champion" if superior else f"not worse than the champion by {margin:g}"
    needed = f"{aim} in AUC, both intervals above {bound:g}"
    comparison = evidence.comparison
    if comparison is None:
        return not_applicable(rule, "there is no other champion")
    stages: list[Stage] = [stage for stage in rule.stages if stage in comparison.scores]
    stages = stages or (list(comparison.scores) if comparison.rescored else [])
    if not stages:
        why = comparison.missing_evidence or f"no image of {', '.join(rule.stages)} that both have scored"
        return failed(rule, f"champion version {comparison.version}: {why}", needed, missing_evidence=True)
    outcomes = dict[Stage, tuple[Outcome, str]]()
    for stage in stages:
        try:
            difference = compare_pair(comparison.scores[stage])
        except InputError as error:
            outcomes[stage] = "unknown", error.found
            continue
        outcome = _decide(difference, bound, superior=superior)
        outcomes[stage] = outcome, _describe(stage, difference, comparison) + _missing(difference, bound, outcome)
    result = combine(rule, outcomes, needed)
    found = f"champion version {comparison.version}: {result.found}"
    return replace(result, found=found, why=f"{found}; needed {needed}")


def _decide(difference: PairedDifference, bound: float, *, superior: bool) -> Outcome:
    intervals = [difference.delong, difference.by_image]
    if any(high < bound or (superior and high <= bound) for _, high in filter(None, intervals)):
        return "fails"
    if all(interval is not None and interval[0] > bound for interval in intervals):
        return "holds"
    return "unknown"


def _missing(found: PairedDifference, bound: float, outcome: Outcome) -> str:
    """What an undecided comparison lacks: how many patients would decide."""
    if outcome != "unknown":
        return ""
    if found.fewest < FEWEST_PATIENTS:
        return f", {FEWEST_PATIENTS} patients of each class are needed at least"
    if found.delong is None or found.by_image is None or found.image_difference is None:
        return ", nothing varies: no interval can be given"
    pairs = ((found.difference, found.delong[0]), (found.image_difference, found.by_image[0]))
    value, low = min(pairs, key=lambda pair: (pair[0] - bound) / max(pair[0] - pair[1], 1e-12))
    return f", {describe_missing(value - bound, value - low, found.n_patients)}"


def _describe(stage: Stage, found: PairedDifference, comparison: ChampionComparison) -> str:
    matched = f"{found.n} of {comparison.images.get(stage, found.n)} images, {found.n_patients} patients"
    parts = [
        f"AUC {found.auc_first:.3f} against {found.auc_second:.3f} on {matched}",
        f"difference {found.difference:+.3f} {_interval(found.delong)} by patient",
        f"{_signed(found.image_difference)} {_interval(found.by_image)} by image",
    ]
    least = f"{found.detectable:.3f}" if found.detectable is not None else "undefined"
    parts.append(f"smallest difference that it could have shown {least}")
    if comparison.rescored:
        parts.append("the champion was scored again: its predictions are of other data")
    return ", ".join(parts)


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"


def _interval(found: tuple[float, float] | None) -> str:
    return "[undefined]" if found is None else f"[{found[0]:+.3f}, {found[1]:+.3f}]"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "age_alone": Rule(check_age_alone, ("stages", "metric"), bounds=BOUNDS),
        "champion": Rule(check_champion, ("stages",), ("non_inferiority", "superiority")),
    }
)
