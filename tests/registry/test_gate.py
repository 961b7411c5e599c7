"""Promotion moves the champion if every rule holds; a refusal changes nothing."""

from __future__ import annotations

import pytest

from osteo_models.errors import GateRefused, InputError, ParamsError
from osteo_models.params import GateRule
from osteo_models.registry.gate import promote
from osteo_models.registry.rules import RULES, RuleResult
from osteo_models.registry.versions import list_versions

NAME = "osteo-unimodal-combined"
RULE = GateRule(rule="minimum", stages=("stage-3",), metric="balanced_accuracy", value=0.7)


@pytest.fixture
def version(register, stage, keys):
    """Register a version of one model with a balanced accuracy in stage 3."""

    def make(value: float):
        return register(stage(3, value), images="combined", seed=next(keys))

    return make


def _champion(tracking) -> list[int]:
    return [each.version for each in list_versions(tracking, NAME) if "champion" in each.aliases]


def test_the_way_of_a_model(tracking, version) -> None:
    first = version(0.8)
    trial = promote(tracking, NAME, None, [RULE], dry_run=True)
    assert (trial.changed, trial.dry_run, trial.verdict.verdict) == (False, True, "PROMOTE")
    assert _champion(tracking) == []

    promotion = promote(tracking, NAME, None, [RULE])
    assert (promotion.version, promotion.replaced, promotion.changed) == (first.version, None, True)
    again = promote(tracking, NAME, None, [RULE])
    assert (again.version, again.replaced, again.changed) == (first.version, None, False)

    bad = version(0.6)
    before = list_versions(tracking, NAME)
    for dry_run in (False, True):
        with pytest.raises(GateRefused) as refused:
            promote(tracking, NAME, None, [RULE], dry_run=dry_run)
        assert refused.value.exit_code == 3
        assert str(refused.value).startswith(
            f"{NAME} version {bad.version}: REJECT: minimum balanced_accuracy (stage-3): found stage-3 0.600, "
            "needed balanced_accuracy of at least 0.7; the champion stays"
        )
    assert list_versions(tracking, NAME) == before
    assert _champion(tracking) == [first.version]

    second = version(0.9)
    promotion = promote(tracking, NAME, "challenger", [RULE])
    assert (promotion.version, promotion.replaced) == (second.version, first.version)
    back = promote(tracking, NAME, str(first.version), [RULE])
    assert (back.version, back.replaced) == (first.version, second.version)
    assert _champion(tracking) == [first.version]


def test_every_failed_rule_is_named(tracking, version) -> None:
    version(0.5)
    rules = [
        RULE,
        GateRule(rule="patients", stages=("stage-3",), value=400),
        GateRule(rule="interval", stages=("stage-5",), metric="roc_auc"),
    ]
    with pytest.raises(GateRefused) as refused:
        promote(tracking, NAME, None, rules)
    text = str(refused.value)
    assert "patients (stage-3): found stage-3 40, needed at least 400 patients in each stage" in text
    assert "interval roc_auc (stage-5): found no metrics, needed" in text
    assert "minimum balanced_accuracy (stage-3): found stage-3 0.500" in text


def test_a_rule_may_look_at_the_champion(tracking, version, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compare(evidence, rule) -> RuleResult:
        seen.append(evidence.champion)
        return RuleResult("compare", True, "", "", "")

    monkeypatch.setattr("osteo_models.registry.rules.RULES", {**RULES, "compare": compare})
    rules = [GateRule(rule="compare", stages=("stage-3",))]
    first = version(0.8)
    promote(tracking, NAME, str(first.version), rules)
    promote(tracking, NAME, str(first.version), rules)
    promote(tracking, NAME, str(version(0.9).version), rules)
    assert seen[1:] == [None, first.metrics]


def test_wrong_names(tracking, version) -> None:
    version(0.9)
    with pytest.raises(InputError, match="no registered model 'osteo-unimodal-xray'"):
        promote(tracking, "osteo-unimodal-xray", None, [RULE])
    with pytest.raises(InputError, match="no version 99; allowed: "):
        promote(tracking, NAME, 99, [RULE])
    with pytest.raises(ParamsError, match="unknown rule 'luck'"):
        promote(tracking, NAME, None, [GateRule(rule="luck", stages=("stage-3",))])
