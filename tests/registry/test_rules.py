"""Every rule with an example that passes and one that fails, and what the gate makes of them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_models.errors import ParamsError
from osteo_models.params import GateRule
from osteo_models.registry.rules import NEEDS, RULES, Evidence, judge

FOLDS = ("stage-1", "stage-2", "stage-3", "stage-4")
MINIMUM = GateRule(rule="minimum", stages=FOLDS, metric="balanced_accuracy", value=0.7)
INTERVAL = GateRule(rule="interval", stages=(*FOLDS, "stage-5"), metric="balanced_accuracy")
PATIENTS = GateRule(rule="patients", stages=FOLDS, value=20)


def _only(metrics, rule):
    (result,) = judge(metrics, [rule]).results
    return result


def test_a_sound_version_is_promoted(stage) -> None:
    verdict = judge({**stage(1, 0.9), **stage(5, 0.8)}, [MINIMUM, INTERVAL, PATIENTS])
    assert verdict.verdict == "PROMOTE"
    assert not verdict.failed


def test_minimum(stage) -> None:
    assert _only(stage(1, 0.7), MINIMUM).passed
    low = _only({**stage(1, 0.8), **stage(2, 0.699)}, MINIMUM)
    assert (low.passed, low.lacking) == (False, False)
    assert low.found == "stage-1 0.800, stage-2 0.699"
    assert low.needed == "balanced_accuracy of at least 0.7"
    assert low.why.startswith("stage-2 below: ")


def test_minimum_of_an_undefined_metric(stage) -> None:
    metrics = stage(1, 0.9)
    del metrics["stage_1.patient.balanced_accuracy"]
    found = _only(metrics, MINIMUM)
    assert (found.passed, found.lacking, found.found) == (False, True, "stage-1 undefined")
    assert not _only(stage(1, float("nan")), MINIMUM).passed


@pytest.mark.parametrize("part", ["balanced_accuracy.ci_low", "balanced_accuracy.ci_high", "n"])
def test_interval(stage, part: str) -> None:
    metrics = {**stage(1), **stage(5)}
    assert _only(metrics, INTERVAL).passed
    del metrics[f"stage_5.patient.{part}"]
    found = _only(metrics, INTERVAL)
    assert (found.passed, found.found) == (False, f"stage-5 has no {part}")


def test_patients(stage) -> None:
    assert _only(stage(3, patients=20), PATIENTS).passed
    few = _only({**stage(3, patients=19), **stage(1, patients=90)}, PATIENTS)
    assert (few.passed, few.found) == (False, "stage-1 90, stage-3 19")
    assert few.why.startswith("too few in stage-3")


def test_patients_unknown(stage) -> None:
    metrics = stage(3)
    del metrics["stage_3.patient.n_patients"]
    assert _only(metrics, PATIENTS).found == "stage-3 unknown"


@pytest.mark.parametrize("rule", [MINIMUM, INTERVAL, PATIENTS], ids=lambda rule: rule.rule)
def test_a_version_that_took_part_in_none_of_the_stages(stage, rule: GateRule) -> None:
    found = _only(stage(6), rule)
    assert (found.passed, found.lacking, found.found) == (False, True, "no metrics")
    assert "under the patient protocol" in found.why


@pytest.mark.parametrize("rule", [MINIMUM, INTERVAL, PATIENTS], ids=lambda rule: rule.rule)
@given(value=st.floats(0, 1))
def test_the_image_protocol_never_promotes(rule: GateRule, value: float) -> None:
    prefix = "stage_1.image"
    metrics = {f"{prefix}.balanced_accuracy{part}": value for part in ("", ".ci_low", ".ci_high")}
    verdict = judge(metrics | {f"{prefix}.n": 1013.0, f"{prefix}.n_patients": 120.0}, [rule])
    assert verdict.verdict == "NOT_ENOUGH_EVIDENCE"
    assert verdict.results[0].found == "only the image protocol, which never promotes"


@given(value=st.floats(0, 1), least=st.floats(0, 1))
def test_minimum_compares(value: float, least: float) -> None:
    rule = GateRule(rule="minimum", stages=("stage-5",), metric="roc_auc", value=least)
    verdict = judge(Evidence({"stage_5.patient.roc_auc": value}), [rule])
    assert verdict.verdict == ("PROMOTE" if value >= least else "REJECT")


def test_a_bad_value_outweighs_missing_evidence(stage) -> None:
    few = judge(stage(1, 0.9, patients=3), [MINIMUM, PATIENTS])
    bad = judge(stage(1, 0.6, patients=3), [MINIMUM, PATIENTS])
    assert (few.verdict, bad.verdict) == ("NOT_ENOUGH_EVIDENCE", "REJECT")
    assert [result.rule for result in bad.failed] == [
        "minimum balanced_accuracy (stage-1, stage-2, stage-3, stage-4)",
        "patients (stage-1, stage-2, stage-3, stage-4)",
    ]


def test_all_faults_of_the_gate_section_at_once() -> None:
    rules = [
        GateRule(rule="maximum", stages=("stage-1",)),
        GateRule(rule="minimum", stages=("stage-1",)),
        GateRule(rule="patients", stages=("stage-1",)),
    ]
    with pytest.raises(ParamsError) as caught:
        judge({}, rules)
    text = str(caught.value)
    for fault in (
        "gate.0.rule: unknown rule 'maximum'",
        "gate.1.metric: missing, rule 'minimum' needs it",
        "gate.1.value: missing",
        "gate.2.value: missing",
        "allowed: rules interval, minimum, patients",
    ):
        assert fault in text


def test_a_gate_without_rules_refuses_to_judge() -> None:
    with pytest.raises(ParamsError, match="no rules, so nothing could be refused"):
        judge({}, [])


def test_every_rule_says_what_it_needs() -> None:
    assert set(NEEDS) == set(RULES)


def test_the_project_s_own_gate(params, stage) -> None:
    assert judge({**stage(1, 0.9), **stage(5, 0.8)}, params.gate).verdict == "PROMOTE"
    assert judge({**stage(1, 0.5), **stage(5, 0.8)}, params.gate).verdict == "REJECT"
