"""Input and output of the rules: the evidence of a version, results and the verdict. Free of MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import pandas as pd

from osteo_models.core.params import GateRule
from osteo_models.core.terms import Modality, Protocol, Stage, metric_prefix
from osteo_models.data.code_tree import CodeSearch
from osteo_models.evaluation.paired import PairedScores
from osteo_models.evaluation.predictions import Predictions

Decision = Literal["PROMOTE", "REJECT", "NOT_ENOUGH_EVIDENCE"]
Outcome = Literal["holds", "fails", "unknown"]
Row = Mapping[str, str]


DATA_TAG: Final = "dvc.data"


@dataclass(frozen=True)
class ChampionComparison:
    """The present champion and the version that is judged, on the same images.

    Attributes:
        version: Number of the champion.
        scores: Both scores of the same images by stage: the version's first, the champion's second.
        images: Number of images the version was tested on in these stages, matched or not.
        rescored: The champion's predictions are of other data, so it was scored again on the version's hold-out.
        missing_evidence: Why there are no scores.
    """

    version: int
    scores: Mapping[Stage, PairedScores] = field(default_factory=dict)
    images: Mapping[Stage, int] = field(default_factory=dict)
    rescored: bool = False
    missing_evidence: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is known of a version: its metrics and tags, the files kept with it, and what the store adds.

    Attributes:
        metrics: Metrics of all stages, such as `<stage>.patient.balanced_accuracy.ci_low`.
        tags: Tags of the version.
        recorded: SHA-256 of each file as it was registered.
        changes: How files, tags, metrics and description differ from what was registered.
        architecture: Architecture of the network.
        images: Image set that it was trained on.
        modalities: Modalities that it scores; empty: all of the image set.
        threshold: Scores from here on are decided as osteoporosis.
        predictions: Predictions kept with the version, by stage and protocol.
        splits: splits.csv as kept with the version.
        splits_digest: MD5 of it.
        shortcuts: Rows of artifacts/evaluation/shortcuts.csv as kept.
        groups: Rows of artifacts/evaluation/groups.csv as kept.
        faults: Why a kept file cannot be read, by its name.
        job: Tags of the run that trained its weights.
        card: Description of the version.
        code: Commit that holds its code; None where no repository was searched.
        comparison: None where there is no champion, or it is this version.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[str] = ()
    architecture: str = ""
    images: str = ""
    modalities: tuple[Modality, ...] = ()
    threshold: float | None = None
    predictions: Mapping[tuple[Stage, Protocol], Predictions] = field(default_factory=dict)
    splits: pd.DataFrame | None = None
    splits_digest: str = ""
    shortcuts: Sequence[Row] | None = None
    groups: Sequence[Row] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    job: Mapping[str, str] = field(default_factory=dict)
    card: str = ""
    code: CodeSearch | None = None
    comparison: ChampionComparison | None = None

    def took_part(self, stage: Stage, protocol: Protocol = "patient") -> bool:
        """Whether there are metrics of a stage under a protocol."""
        prefix = f"{metric_prefix(stage, protocol)}."
        return any(name.startswith(prefix) for name in self.metrics)

    def why_not(self, name: str) -> str:
        """Why there is nothing of a kept file."""
        return f"{name}: {self.faults[name]}" if name in self.faults else f"no {name} is kept with the version"


@dataclass(frozen=True)
class Waiver:
    """A rule that is set aside for one version.

    Attributes:
        rule: Name of a rule, or title of one entry.
        by: Name of the person responsible.
    """

    rule: str
    reason: str
    by: str


@dataclass(frozen=True)
class RuleResult:
    """Result of a rule.

    Attributes:
        rule: The rule's name with its metric and stages, so that two entries of one rule differ.
        found: Per stage, or what is missing; patients are counted, never named.
        missing_evidence: It failed because evidence is missing, not because of the evidence.
        applies: False where the rule has nothing to judge, such as a comparison with a champion that is not there.
        waiver: Set where the rule failed and was set aside.
        remedy: What to do where it failed, if anything other than another model helps.
    """

    rule: str
    passed: bool
    found: str
    needed: str
    why: str
    missing_evidence: bool = False
    applies: bool = True
    waiver: Waiver | None = None
    remedy: str = ""

    @property
    def blocks(self) -> bool:
        """Whether it prevents a promotion."""
        return not self.passed and self.waiver is None


@dataclass(frozen=True)
class Verdict:
    """The gate's answer with every rule's result."""

    verdict: Decision
    results: tuple[RuleResult, ...]

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that prevent a promotion."""
        return tuple(result for result in self.results if result.blocks)

    @property
    def waived(self) -> tuple[RuleResult, ...]:
        """The rules that failed and were set aside."""
        return tuple(result for result in self.results if result.waiver)


@dataclass(frozen=True)
class Rule:
    """A promotion rule.

    Attributes:
        check: A pure function.
        needs: What its entry in params.yaml must give.
        tests: What `test` may be; the first is the default.
        bounds: What `bound` may be.
    """

    check: Callable[[Evidence, GateRule], RuleResult]
    needs: tuple[Literal["stages", "metric", "value"], ...] = ()
    tests: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()


def title(rule: GateRule) -> str:
    """The name of an entry, such as `minimum balanced_accuracy (<its stages>)`."""
    stages = f"({', '.join(rule.stages)})" if rule.stages else ""
    return " ".join(part for part in (rule.rule, rule.metric or "", stages) if part)


def passed(rule: GateRule, found: str, needed: str) -> RuleResult:
    """The rule holds."""
    return RuleResult(title(rule), True, found, needed, f"{found}; needed {needed}")


def failed(rule: GateRule, found: str, needed: str, *, missing_evidence: bool = False, remedy: str = "") -> RuleResult:
    """The rule does not hold, or it is not known whether it does."""
    return RuleResult(title(rule), False, found, needed, f"{found}; needed {needed}", missing_evidence, remedy=remedy)


def combine(rule: GateRule, outcomes: Mapping[Stage, tuple[Outcome, str]], needed: str) -> RuleResult:
    """The result of a rule over its stages: one that fails decides, then one that is unknown."""
    shown = ", ".join(f"{stage} {text}" for stage, (_, text) in outcomes.items())
    found = {outcome for outcome, _ in outcomes.values()}
    if found == {"holds"}:
        return passed(rule, shown, needed)
    return failed(rule, shown, needed, missing_evidence="fails" not in found)


def not_applicable(rule: GateRule, why: str) -> RuleResult:
    """There is nothing to judge, such as a comparison with a champion that does not exist."""
    return RuleResult(title(rule), True, why, "nothing", f"does not apply: {why}", applies=False)


def waive(result: RuleResult, rule: GateRule, waivers: Sequence[Waiver]) -> RuleResult:
    """Set a failed rule aside where a waiver names it."""
    for waiver in waivers:
        if not result.passed and waiver.rule in (rule.rule, result.rule):
            return replace(result, waiver=waiver)
    return result
