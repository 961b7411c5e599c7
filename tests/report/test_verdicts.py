"""The first lines of the page say what the tables say, whichever way they fall."""

import math
import re
from dataclasses import replace

import pytest

from osteo_models.report.sections import headline, verdicts
from tests.conftest import STAGES


def optimism(low, difference=0.05):
    row = {"stage": "stage-1", "architecture": "unimodal", "images": "mri", "metric": "balanced_accuracy"}
    return row | {"difference": difference, "ci_low": low, "ci_high": 0.1}


@pytest.mark.parametrize(("lows", "answer"), [([0.01], "yes"), ([0.01, -0.02], "partly"), ([-0.02], "no")])
def test_optimism_counts_the_intervals_above_zero(lows, answer):
    verdict = verdicts.judge_optimism([optimism(low) for low in lows], STAGES)
    assert verdict.answer == answer
    assert verdict.sentences[0].startswith(f"{sum(low > 0 for low in lows)} of {len(lows)} proposed networks")
    assert "Unimodal MRI +5.0" in verdict.sentences[1]


def test_without_both_protocols_optimism_is_missing():
    assert verdicts.judge_optimism([], STAGES).answer == "missing"
    assert verdicts.judge_optimism([optimism(math.nan)], STAGES).answer == "missing"


def beyond(difference, half=0.03, **changes):
    row = {"stage": "stage-5", "architecture": "unimodal", "images": "mri", "predictor": "age", "metric": "roc_auc"}
    row |= {"model": 0.8, "shortcut": 0.8 - difference, "difference": difference}
    return row | {"ci_low": difference - half, "ci_high": difference + half} | changes


@pytest.mark.parametrize(("differences", "answer"), [([0.1, 0.2], "yes"), ([0.1, 0.01], "partly"), ([-0.2], "no")])
def test_better_than_age_means_beyond_chance_on_the_same_patients(differences, answer):
    verdict = verdicts.judge_shortcuts([beyond(difference) for difference in differences], STAGES)
    assert verdict.answer == answer
    held = sum(difference > 0.03 for difference in differences)
    assert verdict.sentences[0].startswith(f"{held} of {len(differences)} proposed networks beat age alone")


def test_the_difference_to_age_is_told_by_kind_of_test():
    rows = [beyond(0.1), beyond(0.05, stage="stage-1"), beyond(0.3, predictor="sex"), beyond(0.2, metric="brier")]
    verdict = verdicts.judge_shortcuts(rows, STAGES)
    assert verdict.sentences[1:] == [
        "On the hold-out of close ages, by ROC AUC: Unimodal MRI 0.800 against 0.700, +0.100 (+0.070 to +0.130).",
        "With whole patients left out, by ROC AUC: Unimodal MRI 0.800 against 0.750, +0.050 (+0.020 to +0.080).",
    ]
    open_ended = verdicts.judge_shortcuts([beyond(0.1, ci_low=math.nan)], STAGES)
    assert open_ended.answer == "no"
    assert "(interval undefined)" in open_ended.sentences[1]
    assert verdicts.judge_shortcuts([beyond(math.nan)], STAGES).answer == "missing"
    assert verdicts.judge_shortcuts(rows[2:], STAGES).answer == "missing"


def test_a_leak_is_told_with_its_split_and_number():
    clean = {"split": "holdout", "unit": "patient", "units": 0}
    twin = {"split": "holdout", "kind": "exact", "pairs": 0}
    assert verdicts.judge_leaks([clean], [twin], STAGES).answer == "yes"
    leaking = verdicts.judge_leaks([clean, clean | {"unit": "series", "units": 3}], [twin | {"pairs": 2}], STAGES)
    assert leaking.answer == "no"
    assert leaking.sentences == [
        "Hold-out (stage 5): 3 series unit(s) on both sides.",
        "Hold-out (stage 5): 2 pair(s) of equal images.",
    ]
    assert verdicts.judge_leaks([clean | {"split": "fold_image", "units": 99}], [], STAGES).answer == "missing"


def test_the_gates_failed_rules_are_counted():
    failed = {"rule": "minimum", "passed": False, "why": ""}
    waived = {"rule": "patients", "passed": False, "why": "", "waiver": {"by": "somebody"}}
    versions = [
        {"name": "a", "version": 1, "alias": "champion", "verdict": "PROMOTE", "rules": [waived]},
        {"name": "b", "version": 2, "alias": "", "verdict": "REJECT", "rules": [failed]},
    ]
    verdict = verdicts.judge_gate(versions)
    assert verdict.answer == "partly"
    assert verdict.sentences == [
        "1 of 2 versions pass.",
        "Champion: a version 1.",
        "Rules that did not hold, with the number of versions: minimum (1).",
    ]
    assert verdicts.judge_gate([]).answer == "missing"


def test_gaps_name_what_was_not_run_and_what_is_undefined(data):
    verdict = verdicts.judge_gaps(data)
    assert verdict.answer == "yes"
    assert re.match(r"\d+ of \d+ networks of tables 3–7 and 10 were not run", verdict.sentences[0])
    spoiled = [data.summary[0] | {"value": math.nan}, *data.summary[1:]]
    before, after = (verdicts.judge_gaps(one) for one in (data, read_with(data, summary=spoiled, table9=[])))
    assert before.sentences != after.sentences
    assert "Tables without a row: table9." in after.sentences


def read_with(data, **tables):
    return replace(data, tables=data.tables | tables)


def test_the_papers_figures_are_sought_in_our_intervals(data):
    wide = [
        row | {"ci_low": 0.0, "ci_high": 1.0} if row["metric"] == "balanced_accuracy" else row for row in data.summary
    ]
    answer, sentences = headline.judge_claims(read_with(data, summary=wide))
    assert (
        sentences[0] == "Figures: 11 of 11 balanced accuracies of the paper's networks are within our 95 % intervals."
    )
    narrow = [row | {"ci_low": 0.4, "ci_high": 0.41} if row["metric"] == "balanced_accuracy" else row for row in wide]
    answer, sentences = headline.judge_claims(read_with(data, summary=narrow))
    assert sentences[0].startswith("Figures: 0 of 11")
    assert "Unimodal MRI in stage 1 (40.0–41.0, paper 96.5)" in sentences[0]
    assert answer in ("partly", "no")


def test_the_order_of_the_networks_is_told(data):
    best = [
        row | {"value": 0.99}
        if (row["architecture"], row["metric"]) == ("traditional_cnn", "balanced_accuracy")
        else row
        for row in data.summary
    ]
    _, sentences = headline.judge_claims(read_with(data, summary=best))
    assert "stage 1 by image folds Traditional CNN is first of 2" in sentences[1]
    worst = [
        row | {"value": 0.01}
        if (row["architecture"], row["metric"]) == ("traditional_cnn", "balanced_accuracy")
        else row
        for row in data.summary
    ]
    _, sentences = headline.judge_claims(read_with(data, summary=worst))
    assert "stage 1 by image folds it is first of 2" in sentences[1]


def test_claims_without_any_table_are_missing(data):
    answer, sentences = headline.judge_claims(read_with(data, summary=[], table9=[]))
    assert answer == "missing"
    assert sentences[2] == "DeLong's test of table 9: missing."
