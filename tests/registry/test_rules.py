"""Every rule with an example that passes and one that fails, and what the gate makes of them together."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from osteo_models.core.errors import InputError, ParamsError
from osteo_models.core.params import GateRule
from osteo_models.core.terms import decide, metric_prefix
from osteo_models.data.code_tree import CodeSearch
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.paired import PairedDifference, PairedScores, compare_pair
from osteo_models.explain.explained_cases import choose_cases
from osteo_models.registry.rules import RULES, ChampionComparison, Evidence, Waiver, comparison_rules, judge
from osteo_models.registry.rules.metric_rules import widen_upper
from osteo_models.serving.network import judge_members
from tests.registry.gate_cases import (
    as_predictions,
    as_rows,
    make_case,
    make_comparison,
    make_evidence,
    make_groups,
    make_shortcuts,
    make_splits,
)

FOLDS = ("stage-1", "stage-2", "stage-3", "stage-4")
MINIMUM = GateRule(rule="minimum", stages=FOLDS, metric="balanced_accuracy", bound="low", value=0.7)
POINT = MINIMUM.model_copy(update={"bound": "point"})
VETO = MINIMUM.model_copy(update={"bound": "high"})
INTERVAL = GateRule(rule="interval", stages=(*FOLDS, "stage-5"), metric="balanced_accuracy")
PATIENTS = GateRule(rule="patients", stages=FOLDS, value=20)
AGE = GateRule(rule="age_alone", stages=("stage-5",), metric="balanced_accuracy", bound="point")
NOT_WORSE = GateRule(rule="champion", stages=FOLDS, value=0.05)
BETTER = GateRule(rule="champion", stages=FOLDS, test="superiority")
SOUND = make_case()
WEAK = make_case(signal=0.3, seed=5)


def _bare(value: float = 0.9, **changes: float | None) -> Evidence:
    """Metrics of stage 1, and nothing else."""
    name = "stage_1.patient.balanced_accuracy"
    metrics: dict[str, float | None] = {name: value, f"{name}.ci_low": value - 0.05, f"{name}.ci_high": value + 0.04}
    metrics |= {"stage_1.patient.n": 500.0, "stage_1.patient.n_patients": 40.0}
    metrics |= {f"stage_1.patient.{key}": given for key, given in changes.items()}
    return Evidence({key: given for key, given in metrics.items() if given is not None})


def _splits(**changes: object) -> pd.DataFrame:
    table = make_splits()
    for column, value in changes.items():
        table.loc[0, column] = value
    return table


# A rule's entry, an example that passes, one that fails, and what it says of that.
EXAMPLES = [
    (POINT, _bare(0.7), _bare(0.699), "stage-1 0.699"),
    (MINIMUM, _bare(0.751), _bare(0.65), "stage-1 0.650 [0.600, 0.690]"),
    (VETO, _bare(0.661), _bare(0.65), "stage-1 0.650 [0.600, 0.690]"),
    (INTERVAL, _bare(), _bare(n=None), "stage-1 has no n"),
    (PATIENTS, _bare(n_patients=20.0), _bare(n_patients=19.0), "stage-1 19"),
    (
        GateRule(rule="subgroups", stages=FOLDS, metric="accuracy", value=0.6),
        make_evidence(groups=as_rows(make_groups(0.52))),
        make_evidence(groups=as_rows(make_groups(0.45))),
        "worst of 2 is stage-1 sex M with 0.450, at most 0.550 allowing for 2 groups, 1 too small to judge",
    ),
    (
        GateRule(rule="patient_disjoint"),
        make_evidence(),
        make_evidence(splits=_splits(fold_patient=3)),
        "1 patients on two sides of fold_patient, 1 of 160 predictions of stage-1 are of another fold",
    ),
    (
        GateRule(rule="holdout_untouched"),
        make_evidence(),
        make_evidence(splits=_splits(holdout=1)),
        "1 patients on two sides of holdout, 1 hold-out patients in a fold or in the patient-based set, 2 images",
    ),
    (
        GateRule(rule="code_pinned"),
        make_evidence(),
        make_evidence(code=CodeSearch(found="git tree 5e7d is in no branch")),
        "git tree 5e7d is in no branch",
    ),
    (
        GateRule(rule="data_pinned"),  # the job was trained on an older revision, of which it read the same
        make_evidence(job={"osteo.job": "c" * 16, "dvc.data": "e" * 32, "dvc.splits": "e" * 32}),
        make_evidence(splits_digest="f" * 32),
        "the splits kept are ffffffffffff, not aaaaaaaaaaaa",
    ),
    (
        GateRule(rule="files_intact"),
        make_evidence(),
        make_evidence(changes=["splits/splits.csv is changed", "tag profile is gone"]),
        "splits/splits.csv is changed, tag profile is gone",
    ),
    (
        GateRule(rule="metrics_match", stages=("stage-1",)),
        make_evidence(),
        make_evidence(metrics={**make_evidence().metrics, "stage_1.patient.n": 1.0}),
        "stage-1 n is stated as 1.0, computed as 160",
    ),
    (GateRule(rule="card"), make_evidence(), make_evidence(card="Fine."), "the card does not give weights, job, code"),
    (
        AGE,
        make_evidence(shortcuts=as_rows(make_shortcuts(0.5))),
        make_evidence(shortcuts=as_rows(make_shortcuts(1.0))),
        "stage-5 1.000 against 1.000 of age alone",
    ),
    (
        NOT_WORSE,
        make_evidence(comparison=make_comparison(SOUND, SOUND)),
        make_evidence(comparison=make_comparison(WEAK, SOUND)),
        "champion version 1: stage-1 AUC ",
    ),
    (
        BETTER,
        make_evidence(comparison=make_comparison(SOUND, WEAK)),
        make_evidence(comparison=make_comparison(SOUND, SOUND)),
        "difference +0.000 [+0.000, +0.000] by patient",
    ),
]


def _only(evidence, rule):
    (result,) = judge(evidence, [rule]).results
    return result


@pytest.mark.parametrize(
    ("rule", "good", "bad", "says"), EXAMPLES, ids=[f"{row[0].rule} {row[0].test} {row[0].bound}" for row in EXAMPLES]
)
def test_every_rule_passes_one_and_fails_one(rule, good, bad, says) -> None:
    passed, failed = _only(good, rule), _only(bad, rule)
    assert passed.passed and passed.applies and not passed.missing_evidence
    assert not failed.passed and says in failed.found
    assert failed.needed and failed.needed in failed.why


def test_every_rule_has_its_examples() -> None:
    assert {row[0].rule for row in EXAMPLES} == set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_version_of_which_nothing_is_known_is_neither_a_pass_nor_a_crash(name: str) -> None:
    rule = GateRule(rule=name, stages=("stage-1", "stage-5"), metric="balanced_accuracy", value=0.7)
    verdict = judge(Evidence({}, comparison=ChampionComparison(1)), [rule])
    assert verdict.verdict == "NOT_ENOUGH_EVIDENCE"
    assert verdict.results[0].missing_evidence


def test_a_comparison_without_a_champion_does_not_apply_and_says_so() -> None:
    found = _only(make_evidence(), NOT_WORSE)
    assert (found.passed, found.applies, found.why) == (True, False, "does not apply: there is no other champion")


def test_a_small_test_set_says_what_it_could_have_shown() -> None:
    few = make_splits(20)
    rival = make_comparison(make_case(few, seed=3), make_case(few, seed=4))
    found = _only(make_evidence(comparison=rival), NOT_WORSE)
    assert (found.passed, found.missing_evidence) == (False, True)
    assert "on 40 of 40 images, 20 patients" in found.found
    least = float(found.found.partition("could have shown ")[2].partition(",")[0])
    assert 0.05 < least < 1


def test_a_worse_version_is_rejected_not_doubted() -> None:
    assert judge(make_evidence(comparison=make_comparison(WEAK, SOUND)), [NOT_WORSE]).verdict == "REJECT"
    assert judge(make_evidence(comparison=make_comparison(SOUND, SOUND)), [BETTER]).verdict == "REJECT"


def test_scores_that_cannot_be_compared() -> None:
    rival = make_comparison(SOUND, SOUND)
    flat = {
        "stage-1": rival.scores["stage-1"].__class__(**vars(rival.scores["stage-1"]) | {"second": np.full(160, 0.5)})
    }
    found = _only(make_evidence(comparison=ChampionComparison(1, flat)), NOT_WORSE)
    assert found.missing_evidence and "is 0.5 everywhere" in found.found
    gone = _only(make_evidence(comparison=ChampionComparison(3, missing_evidence="it is gone")), NOT_WORSE)
    assert gone.missing_evidence and gone.found == "champion version 3: it is gone"


def test_a_champion_that_was_scored_again_is_compared_on_the_hold_out() -> None:
    case = make_case()
    rival = make_comparison(case, case, stage="stage-5", rescored=True)
    found = _only(make_evidence(comparison=rival), NOT_WORSE)
    assert found.passed and found.found.endswith("the champion was scored again: its predictions are of other data")


def test_a_rule_may_be_asked_of_a_profile_only() -> None:
    rule = AGE.model_copy(update={"profiles": ("quick",)})
    found = _only(make_evidence(shortcuts=as_rows(make_shortcuts(1.0))), rule)
    assert (found.passed, found.applies) == (True, False)
    assert found.why == "does not apply: asked of profile quick only, and this version is of paper"


def test_a_waived_rule_stays_in_sight() -> None:
    waiver = Waiver("minimum", "pilot on twelve patients", "A. Keeper")
    verdict = judge(_bare(0.5), [MINIMUM, PATIENTS], [waiver])
    assert (verdict.verdict, verdict.failed) == ("PROMOTE", ())
    (waived,) = verdict.waived
    assert (waived.passed, waived.waiver) == (False, waiver)
    assert judge(_bare(0.9), [MINIMUM], [waiver]).waived == ()
    two = [MINIMUM, GateRule(rule="minimum", stages=("stage-1",), metric="balanced_accuracy", value=0.8)]
    only = Waiver("minimum balanced_accuracy (stage-1)", "pilot", "A. Keeper")
    assert [result.rule for result in judge(_bare(0.5), two, [only]).failed] == [
        f"minimum balanced_accuracy ({', '.join(FOLDS)})"
    ]


@pytest.mark.parametrize(
    ("waiver", "says"),
    [
        (Waiver("luck", "why not", "A. Keeper"), "no rule 'luck' in the gate; allowed: minimum"),
        (Waiver("minimum", " ", "A. Keeper"), "rule 'minimum' waived without --reason"),
        (Waiver("minimum", "pilot", ""), "rule 'minimum' waived without --by"),
    ],
)
def test_a_waiver_needs_rule_reason_and_name(waiver: Waiver, says: str) -> None:
    with pytest.raises(InputError, match=says):
        judge(_bare(0.5), [MINIMUM], [waiver])


def test_minimum_of_an_undefined_metric() -> None:
    found = _only(_bare(balanced_accuracy=None), MINIMUM)
    assert (found.passed, found.missing_evidence) == (False, True)
    assert found.found == "stage-1 undefined without an interval: an interval needs 5 patients of each class"
    assert not _only(_bare(float("nan")), MINIMUM).passed


@pytest.mark.parametrize("rule", [MINIMUM, INTERVAL, PATIENTS], ids=lambda rule: rule.rule)
@given(value=st.floats(0, 1))
def test_the_image_protocol_never_promotes(rule: GateRule, value: float) -> None:
    prefix = "stage_1.image"
    metrics = {f"{prefix}.balanced_accuracy{part}": value for part in ("", ".ci_low", ".ci_high")}
    verdict = judge(metrics | {f"{prefix}.n": 1013.0, f"{prefix}.n_patients": 120.0}, [rule])
    assert verdict.verdict == "NOT_ENOUGH_EVIDENCE"
    assert verdict.results[0].found.startswith("only the image protocol, which never promotes")


@given(value=st.floats(0, 1), least=st.floats(0, 1))
def test_minimum_compares(value: float, least: float) -> None:
    rule = GateRule(rule="minimum", stages=("stage-5",), metric="roc_auc", bound="point", value=least)
    verdict = judge(Evidence({"stage_5.patient.roc_auc": value}), [rule])
    assert verdict.verdict == ("PROMOTE" if value >= least else "REJECT")


def test_a_bad_value_outweighs_missing_evidence() -> None:
    few = judge(_bare(0.9, n_patients=3.0), [MINIMUM, PATIENTS])
    bad = judge(_bare(0.6, n_patients=3.0), [MINIMUM, PATIENTS])
    assert (few.verdict, bad.verdict) == ("NOT_ENOUGH_EVIDENCE", "REJECT")
    assert [result.rule.split()[0] for result in bad.failed] == ["minimum", "patients"]


def test_all_faults_of_the_gate_section_at_once() -> None:
    rules = [
        GateRule(rule="maximum", stages=("stage-1",)),
        GateRule(rule="minimum"),
        GateRule(rule="patients", stages=("stage-1",), test="superiority"),
        GateRule(rule="champion", stages=("stage-1",), bound="low"),
    ]
    with pytest.raises(ParamsError) as caught:
        judge({}, rules)
    text = str(caught.value)
    for fault in (
        "gate.0.rule: unknown rule 'maximum'",
        "gate.1.stages: missing, rule 'minimum' needs it",
        "gate.1.metric: missing",
        "gate.1.value: missing",
        "gate.2.value: missing",
        "gate.2.test: 'superiority', allowed for rule 'patients': nothing",
        "gate.3.bound: 'low', allowed for rule 'champion': nothing",
        "allowed: rules age_alone, card, champion",
    ):
        assert fault in text


def _second_holdout(validation: str = "holdout", images: slice = slice(None)) -> dict:
    """The predictions of a sound version, and those of stage 5 as stage 7's too."""
    found = dict(make_evidence().predictions)
    fifth = found["stage-5", "patient"]
    rows = np.arange(fifth.image_id.size)[images]
    found["stage-7", "patient"] = replace(fifth, stage="stage-7", validation=validation).select(rows)
    return found


def test_a_stage_is_judged_by_the_validation_of_its_predictions() -> None:
    untouched, disjoint = GateRule(rule="holdout_untouched"), GateRule(rule="patient_disjoint")
    (result,) = judge(make_evidence(predictions=_second_holdout()), [untouched]).results
    assert result.passed and "no stage but stage-5, stage-7 saw" in result.needed
    (result,) = judge(make_evidence(predictions=_second_holdout(images=slice(3, None))), [untouched]).results
    assert not result.passed and result.found == "3 images of the hold-out were not scored in stage-7"
    other = make_evidence(predictions=_second_holdout("folds"))
    assert "24 images of hold-out patients in stage-7" in judge(other, [untouched]).results[0].found
    assert not judge(other, [disjoint]).results[0].passed


def test_age_alone_is_that_of_the_stage_s_own_validation() -> None:
    rule = GateRule(rule="age_alone", stages=("stage-7",), metric="balanced_accuracy")
    name = "stage_7.patient.balanced_accuracy"
    metrics = {name: 0.9, f"{name}.ci_low": 0.6, f"{name}.ci_high": 0.99}
    (known,) = judge(make_evidence(metrics=metrics, predictions=_second_holdout()), [rule]).results
    assert known.passed and known.found == "stage-7 0.900 [0.600, 0.990] against 0.500 of age alone"
    folds = make_evidence(metrics=metrics, predictions=_second_holdout("folds"))
    assert judge(folds, [rule]).results[0].found == "stage-7 0.900 against unknown of age alone"


def test_metrics_without_their_predictions_or_threshold_are_not_enough_evidence() -> None:
    rule = GateRule(rule="metrics_match", stages=("stage-1", "stage-2", "stage-5"))
    kept = {key: table for key, table in make_evidence().predictions.items() if key[0] != "stage-5"}
    found = _only(make_evidence(predictions=kept), rule)
    assert (found.passed, found.missing_evidence) == (False, True)
    assert found.found == "no stage-5 predictions is kept with the version"
    found = _only(make_evidence(predictions=kept, faults={"stage-5 predictions": "no readable table"}), rule)
    assert found.found == "stage-5 predictions: no readable table"
    found = _only(make_evidence(threshold=None), rule)
    assert (found.missing_evidence, found.found) == (True, "no threshold is kept with the version")


def test_a_card_is_told_all_that_it_lacks() -> None:
    rule = GateRule(rule="card")
    found = _only(make_evidence(card="Fine."), rule)
    assert (found.passed, found.missing_evidence) == (False, False)
    assert found.found == (
        "the card does not give weights, job, code, data, splits, the line of stage-1, the line of stage-5, "
        "the notice that the cohort is synthetic, the sentence that it is no medical device"
    )


@pytest.mark.parametrize("synthetic", ["true", "false", None])
def test_only_a_synthetic_cohort_needs_its_notice(synthetic: str | None) -> None:
    sound, rule = make_evidence(), GateRule(rule="card")
    tags = {name: text for name, text in sound.tags.items() if name != "synthetic"}
    tags |= {} if synthetic is None else {"synthetic": synthetic}
    found = _only(replace(sound, tags=tags, card=sound.card.replace("Synthetic cohort", "Patients")), rule)
    assert found.passed == (synthetic != "true")


def test_a_gate_without_rules_refuses_to_judge() -> None:
    with pytest.raises(ParamsError, match="no rules, so nothing could be refused"):
        judge({}, [])


def test_the_project_s_own_gate(params) -> None:
    assert judge(make_evidence(), params.gate).verdict == "PROMOTE"
    assert {rule.rule for rule in params.gate} == set(RULES)


def _interval(low: float, value: float, high: float, patients: float = 100.0) -> Evidence:
    name = "stage_1.patient.balanced_accuracy"
    found = {name: value, f"{name}.ci_low": low, f"{name}.ci_high": high}
    return Evidence(found | {"stage_1.patient.n": 500.0, "stage_1.patient.n_patients": patients})


ENDS = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)


@given(ends=ENDS, least=st.floats(0, 1))
def test_the_lower_end_decides_and_the_upper_end_vetoes(ends: list[float], least: float) -> None:
    evidence, (low, _, high) = _interval(*ends), ends
    decided = judge(evidence, [MINIMUM.model_copy(update={"value": least})]).verdict
    expected = "PROMOTE" if low >= least else "REJECT" if high < least else "NOT_ENOUGH_EVIDENCE"
    assert decided == expected
    veto = judge(evidence, [VETO.model_copy(update={"value": least})]).verdict
    assert veto == ("REJECT" if high < least else "PROMOTE")


@given(ends=ENDS, rise=st.floats(0, 0.5), least=st.floats(0, 1), bound=st.sampled_from(["low", "point", "high"]))
def test_a_higher_metric_is_never_judged_worse(ends: list[float], rise: float, least: float, bound: str) -> None:
    order = ("REJECT", "NOT_ENOUGH_EVIDENCE", "PROMOTE")
    rule = MINIMUM.model_copy(update={"value": least, "bound": bound})
    before = judge(_interval(*ends), [rule]).verdict
    after = judge(_interval(*(min(1.0, end + rise) for end in ends)), [rule]).verdict
    assert order.index(after) >= order.index(before)


@given(ends=ENDS, least=st.floats(0, 1), narrower=st.floats(0, 1))
def test_more_patients_never_undo_a_decision_of_minimum(ends: list[float], least: float, narrower: float) -> None:
    rule = MINIMUM.model_copy(update={"value": least})
    low, value, high = ends
    before = judge(_interval(*ends), [rule]).verdict
    after = judge(_interval(value - narrower * (value - low), value, value + narrower * (high - value)), [rule]).verdict
    assert after == before or before == "NOT_ENOUGH_EVIDENCE"


DIFFERENCES = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(sorted)


@given(
    by_patient=DIFFERENCES, by_image=DIFFERENCES, narrower=st.floats(0, 1), rule=st.sampled_from([NOT_WORSE, BETTER])
)
def test_more_patients_never_undo_a_decision_beside_the_champion(
    by_patient: list[float], by_image: list[float], narrower: float, rule: GateRule
) -> None:
    evidence = make_evidence(SOUND, comparison=make_comparison(SOUND, SOUND))

    def decide_at(width: float) -> str:
        intervals = [(v - width * (v - low), v + width * (high - v)) for low, v, high in (by_patient, by_image)]
        found = PairedDifference(0.9, 0.8, by_patient[1], intervals[0], by_image[1], intervals[1], 0.1, 160, 80, 40)
        with patch.object(comparison_rules, "compare_pair", return_value=found):
            return judge(evidence, [rule]).verdict

    before, after = decide_at(1.0), decide_at(narrower)
    assert after == before or before == "NOT_ENOUGH_EVIDENCE"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_score_at_the_threshold_is_decided_alike_everywhere(threshold: float, kind: type[np.floating]) -> None:
    """0.7 in float32 is 0.69999999: below the threshold 0.7, whoever compares; 0.1 is above 0.1."""
    score, target = np.full(2, threshold, dtype=kind), np.array([0, 1])
    expected = float(score[0]) >= threshold
    assert decide(score, threshold).tolist() == [expected, expected]
    summary = summarize(target, score, threshold=threshold, patient_id=["a", "b"])
    assert (summary.true_positives, summary.true_negatives) == (expected, not expected)
    assert judge_members(score[np.newaxis], threshold)["decision"].tolist() == [expected, expected]
    two = as_predictions(SOUND.predictions["stage-5"].iloc[[0, 2]])
    assert two.target.tolist() == target.tolist()
    cases = choose_cases(replace(two, score=score), threshold)
    assert [case.decision for case in cases] == [expected, expected]
    assert {(case.target, case.kind) for case in cases} == {(expected, "correct"), (not expected, "worst_error")}


@pytest.mark.parametrize("bound", ["low", "point", "high"])
@pytest.mark.parametrize("rule", [MINIMUM, AGE], ids=lambda rule: rule.rule)
def test_a_number_that_is_not_one_is_never_a_decision(rule: GateRule, bound: str) -> None:
    name = f"{metric_prefix(rule.stages[-1] if rule is AGE else 'stage-1', 'patient')}.balanced_accuracy"
    nothing = dict.fromkeys((name, f"{name}.ci_low", f"{name}.ci_high"), float("nan"))
    found = _only(make_evidence(metrics=nothing), rule.model_copy(update={"bound": bound}))
    assert (found.passed, found.missing_evidence) == (False, True)


def test_the_number_of_patients_that_would_decide_decides() -> None:
    found = _only(_interval(0.65, 0.75, 0.85, patients=50), MINIMUM)
    assert (found.passed, found.missing_evidence) == (False, True)
    assert found.found == ("stage-1 0.750 [0.650, 0.850]: about 200 patients would decide at this estimate")
    half = 0.1 * (50 / 200) ** 0.5
    assert _only(_interval(0.75 - half, 0.75, 0.75 + half, patients=200), MINIMUM).passed
    for value in (0.70, 0.70 + 1e-12):
        low = _only(_interval(0.60, value, 0.80), MINIMUM)
        assert low.found.endswith("at this estimate no number of patients would show it")


def test_a_veto_without_an_interval_does_not_stand_in_the_way_and_says_so() -> None:
    few = Evidence({"stage_1.patient.balanced_accuracy": 0.3, "stage_1.patient.n_patients": 8.0})
    assert judge(few, [VETO]).verdict == "PROMOTE"
    assert _only(few, VETO).found.endswith("an interval needs 5 patients of each class; no veto without one")
    assert judge(few, [MINIMUM]).verdict == "NOT_ENOUGH_EVIDENCE"


def _simulate_groups(rng: np.random.Generator, accuracies: list[tuple[float, int]]) -> pd.DataFrame:
    head = {
        "stage": "stage-1",
        "architecture": "unimodal",
        "images": "mri",
        "protocol": "patient",
        "metric": "accuracy",
    }
    rows = []
    for number, (accuracy, patients) in enumerate(accuracies):
        right = int(rng.binomial(patients, accuracy))
        _, high = proportion_interval(right, patients, "wilson")
        figures = {"value": right / patients, "ci_high": high, "n_patients": patients, "note": ""}
        rows.append(head | figures | {"by": "scanner", "group": str(number)})
    return pd.DataFrame(rows)


def test_twelve_sound_small_groups_are_not_refused_by_chance_and_a_bad_one_is() -> None:
    rule = GateRule(rule="subgroups", stages=FOLDS, metric="accuracy", value=0.6)
    rng = np.random.default_rng(7)
    sound, bad, by_point = 0, 0, 0
    for _ in range(300):
        groups = _simulate_groups(rng, [(0.85, 10)] * 12)
        by_point += bool((groups["value"] < 0.6).any())
        sound += _only(make_evidence(groups=as_rows(groups)), rule).passed
        bad += not _only(
            make_evidence(groups=as_rows(_simulate_groups(rng, [(0.85, 10)] * 11 + [(0.3, 40)]))), rule
        ).passed
    assert sound >= 0.97 * 300
    assert bad >= 0.8 * 300
    assert by_point > 0.05 * 300  # the lowest of twelve estimates alone would refuse that many


def test_a_useless_model_is_not_promoted_by_a_lucky_hold_out() -> None:
    rng = np.random.default_rng(11)
    gate = [MINIMUM, MINIMUM.model_copy(update={"stages": ("stage-5",), "bound": "high", "value": 0.6})]
    lucky, promoted = 0, 0
    for _ in range(100):
        metrics = dict[str, float]()
        for stage, patients in (("stage-1", 94), ("stage-5", 12)):
            target = np.arange(patients) % 2
            summary = summarize(target, rng.uniform(size=patients), patient_id=map(str, range(patients)))
            metrics |= summary.flatten(metric_prefix(stage, "patient"))
        lucky += metrics["stage_5.patient.balanced_accuracy"] >= 0.55
        promoted += judge(metrics, gate).verdict == "PROMOTE"
    assert lucky > 30 and promoted == 0


@pytest.mark.parametrize("seed", range(4))
def test_an_undecided_comparison_names_the_larger_need_of_both_intervals(seed: int) -> None:
    splits = make_splits(40)
    rival = make_comparison(make_case(splits, signal=0.62, seed=seed), make_case(splits, signal=0.6, seed=seed + 10))
    found, difference = _only(make_evidence(comparison=rival), NOT_WORSE), compare_pair(rival.scores["stage-1"])
    pairs = ((difference.difference, difference.delong[0]), (difference.image_difference, difference.by_image[0]))
    assert found.missing_evidence
    if min(value for value, _ in pairs) <= -0.05:
        assert found.found.endswith("at this estimate no number of patients would show it")
    else:
        needs = [math.ceil(difference.n_patients * ((value - low) / (value + 0.05)) ** 2) for value, low in pairs]
        assert found.found.endswith(f", about {max(needs)} patients would decide at this estimate")


def test_two_perfect_models_are_not_compared_by_patient() -> None:
    target = np.repeat([0, 1], 20)
    first = np.where(target == 1, 0.9, 0.1) + np.linspace(0, 0.05, 40)
    scores = PairedScores(target, np.arange(40).astype(str), first, first**2)
    found = _only(make_evidence(comparison=ChampionComparison(1, {"stage-1": scores}, {"stage-1": 40})), NOT_WORSE)
    assert found.missing_evidence and found.found.endswith(", nothing varies: no interval can be given")


def test_the_multimodal_network_is_set_beside_age_on_images_of_both_modalities() -> None:
    shortcuts = as_rows(make_shortcuts(0.5).assign(images="combined"))
    evidence = make_evidence(shortcuts=shortcuts)
    assert "against unknown of age alone" in _only(evidence, AGE).found
    assert "against 0.500 of age alone" in _only(replace(evidence, images="multimodal"), AGE).found


def test_fewer_than_five_patients_of_a_class_are_not_compared() -> None:
    few = make_splits(8)
    rival = make_comparison(make_case(few, seed=3), make_case(few, seed=4))
    found = _only(make_evidence(comparison=rival), NOT_WORSE)
    assert found.missing_evidence and found.found.endswith("5 patients of each class are needed at least")


@pytest.mark.parametrize(
    ("low", "value", "high", "count", "passes"),
    [
        (0.7, 0.7, 0.8, 1.0, True),
        (0.7, 0.8, 0.8, 1.0, True),
        (0.7, 0.69, 0.8, 500.0, False),
        (0.7, 0.81, 0.8, 500.0, False),
        (0.7, 0.75, 0.8, 0.0, False),
    ],
)
def test_a_value_lies_within_its_interval_and_rests_on_images(low, value, high, count, passes) -> None:
    evidence = _interval(low, value, high)
    found = _only(replace(evidence, metrics={**evidence.metrics, "stage_1.patient.n": count}), INTERVAL)
    assert (found.passed, found.missing_evidence) == (passes, False)
    shown = f"stage-1 {value:.3f} with [{low:.3f}, {high:.3f}] and n {count:g}"
    assert found.found == ("all of stage-1" if passes else shown)


def test_an_interval_is_told_all_that_it_lacks() -> None:
    found = _only(_bare(n=None, **{"balanced_accuracy.ci_low": None, "balanced_accuracy.ci_high": None}), INTERVAL)
    assert (found.passed, found.missing_evidence) == (False, True)
    holes = ("balanced_accuracy.ci_low", "balanced_accuracy.ci_high", "n")
    assert found.found == ", ".join(f"stage-1 has no {hole}" for hole in holes)


def test_a_number_of_patients_that_is_not_known_is_no_number() -> None:
    found = _only(_bare(n_patients=None), PATIENTS)
    assert (found.passed, found.missing_evidence, found.found) == (False, True, "stage-1 unknown")
    assert _only(_interval(0.6, 0.75, 0.8, patients=0), MINIMUM).found.endswith(": more patients are needed")


def _group(value: float, high: float, patients: int = 40, **changes: str) -> dict[str, str]:
    row = {"stage": "stage-1", "architecture": "unimodal", "images": "mri", "protocol": "patient"}
    row |= {"metric": "accuracy", "by": "sex", "group": "F", "note": ""}
    return row | {"value": str(value), "ci_high": str(high), "n_patients": str(patients)} | changes


@pytest.mark.parametrize("patients", [2, 10, 40])
@pytest.mark.parametrize("groups", [1, 2, 12])
def test_the_upper_end_of_a_group_is_widened_as_by_hand(groups: int, patients: int) -> None:
    middle, upper = np.arcsin(np.sqrt([0.45, 0.55]))
    student = stats.t(df=patients - 1)
    expected = np.sin(min(np.pi / 2, middle + (upper - middle) * student.ppf(1 - 0.05 / groups) / student.ppf(0.975)))
    assert widen_upper(_group(0.45, 0.55, patients), groups) == pytest.approx(expected**2)


def test_the_upper_end_of_a_group_is_one_at_most_and_a_single_patient_has_one() -> None:
    assert widen_upper(_group(0.95, 1.0, 12), 100) == 1
    assert widen_upper(_group(0.45, 0.55, 1), 12) == pytest.approx(widen_upper(_group(0.45, 0.55, 2), 12))


def test_the_worst_group_is_the_one_whose_upper_end_is_lowest() -> None:
    rule = GateRule(rule="subgroups", stages=FOLDS, metric="accuracy", value=0.6)
    rows = [_group(0.5, 0.9), _group(0.55, 0.6, group="M", by="age"), _group(0.8, 0.85)]
    others = [("stage", "stage-5"), ("architecture", "resnet50"), ("images", "ct"), ("protocol", "image")]
    rows += [_group(0.1, 0.2, **{name: text}) for name, text in (*others, ("metric", "brier"))]
    rows += [_group(0.1, 0.2) | {name: text} for name in ("value", "ci_high", "n_patients") for text in ("", "nan")]
    found = _only(make_evidence(groups=rows), rule)
    upper = widen_upper(rows[1], 3)
    assert found.passed and found.found == (
        f"worst of 3 is stage-1 age M with 0.550, at most {upper:.3f} allowing for 3 groups, 6 too small to judge"
    )
    at_the_floor = _only(make_evidence(groups=rows[:3]), rule.model_copy(update={"value": upper}))
    assert at_the_floor.passed and at_the_floor.found.endswith("allowing for 3 groups")
    above = rule.model_copy(update={"value": math.nextafter(upper, 1)})
    assert not _only(make_evidence(groups=rows), above).passed


DISJOINT, UNTOUCHED = GateRule(rule="patient_disjoint"), GateRule(rule="holdout_untouched")


def test_what_the_rules_of_the_splits_counted_is_told() -> None:
    assert _only(make_evidence(), DISJOINT).found == "92 patients, 1 tables of predictions in agreement"
    assert _only(make_evidence(), UNTOUCHED).found == "24 images scored, 12 hold-out patients in no fold"


@pytest.mark.parametrize("rule", [DISJOINT, UNTOUCHED], ids=lambda rule: rule.rule)
def test_a_version_without_splits_or_predictions_is_not_judged_by_them(rule: GateRule) -> None:
    found = _only(make_evidence(splits=None), rule)
    assert (found.missing_evidence, found.found) == (True, "no splits/splits.csv is kept with the version")
    kept = dict(make_evidence().predictions)
    by_image = {("stage-1", "image"): replace(kept["stage-1", "patient"], protocol="image")}
    found = _only(make_evidence(predictions=by_image), rule)
    what = "predictions" if rule is DISJOINT else "hold-out predictions"
    assert (found.passed, found.missing_evidence, found.found) == (False, True, f"no {what} is kept with the version")


def test_a_patient_on_two_sides_of_the_patient_based_set_and_a_strange_image_are_told() -> None:
    found = _only(make_evidence(splits=_splits(patient_test=1)), DISJOINT)
    assert (found.passed, found.missing_evidence, found.found) == (
        False,
        False,
        "1 patients on two sides of patient_test",
    )
    splits = _splits(image_id="strange")
    assert _only(make_evidence(splits=splits), DISJOINT).found == "1 of 160 predictions of stage-1 are of another fold"


@pytest.mark.parametrize("column", ["patient_test", "fold_image", "fold_patient"])
def test_a_held_out_patient_in_any_split_is_told(column: str) -> None:
    splits = make_splits()
    splits.loc[splits["patient_id"].isin(["p080", "p081"]), column] = 1
    found = _only(make_evidence(splits=splits), UNTOUCHED)
    assert (found.passed, found.missing_evidence) == (False, False)
    assert found.found == "2 hold-out patients in a fold or in the patient-based set"


def test_the_hold_out_is_scored_whole_and_alone() -> None:
    splits = make_splits()
    empty = _only(make_evidence(splits=splits.assign(holdout=0)), UNTOUCHED)
    assert not empty.passed and empty.found == "an empty hold-out, 24 images of stage-5 are not in the hold-out"
    other = splits[splits["patient_id"] == "p091"].assign(modality="ct")
    other["image_id"] += "-ct"
    both = make_evidence(splits=pd.concat([splits, other], ignore_index=True))
    assert _only(both, UNTOUCHED).passed  # a network of MRI alone scores no CT
    pooled = dict(both.predictions)
    pooled["stage-5", "patient"] = replace(pooled["stage-5", "patient"], images="combined")
    found = _only(replace(both, predictions=pooled), UNTOUCHED)
    assert found.found == "2 images of the hold-out were not scored in stage-5"
