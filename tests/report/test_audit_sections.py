"""Audits, curves, confusion matrices, explanations, search, checklist: what each takes from its tables."""

import math
from dataclasses import replace

from osteo_models.report.report_data import Run
from osteo_models.report.sections import (
    audits,
    checklist,
    costs,
    curves,
    explanations,
    stages,
)
from tests.report.page import read_section, read_table


def test_the_widest_gap_between_the_protocols_stands_first(data):
    plot = audits.build_optimism(data.tables["image_vs_patient"])
    values = [mark.value for mark in plot.marks]
    assert values == sorted(values, reverse=True)
    assert plot.ticks[0] <= min(0, *(mark.low for mark in plot.marks))
    assert plot.marks[0].source.endswith("-{image,patient}.parquet")
    assert audits.build_optimism([]) is None


def test_shortcuts_stand_below_the_image_models(data):
    (plot,) = audits.build_shortcuts(data.tables["shortcuts"])
    assert [(mark.label, mark.kind) for mark in plot.marks] == [
        ("Unimodal", "patient"),
        ("Age alone", "shortcut"),
        ("Image header alone", "shortcut"),
    ]
    assert plot.line == 0.5
    assert [plot.place(x) for x in (plot.ticks[0], plot.ticks[-1], 99)] == ["0.00", "100.00", "100.00"]


def test_an_undefined_shortcut_has_no_mark_but_its_note(data):
    rows = [
        row | dict.fromkeys(("value", "ci_low", "ci_high"), math.nan) | {"note": "undefined: the same for all images"}
        if row["predictor"] == "header"
        else row
        for row in data.tables["shortcuts"]
    ]
    mark = audits.build_shortcuts(rows)[0].marks[-1]
    assert (mark.text, mark.value, mark.note) == ("undefined", None, "undefined: the same for all images")


def test_what_a_network_adds_has_its_paired_interval(data):
    age, sex = read_table(data, "audits", "beyond")
    assert age.texts[:6] == ["Unimodal CT", "5", "Age alone", "0.800", "0.600", "+0.200"]
    assert age.cells[5].detail == "+0.050 to +0.350"
    assert sex.texts[2] == "Sex alone"


def test_leaks_name_split_and_kind(data):
    assert read_table(data, "audits", "shared")[0].texts[:4] == ["hold-out (stage 5)", "patient", "0", "12"]
    first = read_table(data, "audits", "duplicates")[0]
    assert first.texts[:4] == ["folds of single images", "near", "7", "0"]
    assert first.cells[1].detail == "correlation from 0.999"


def test_groups_with_too_few_patients_have_a_note_and_no_figure(data):
    title, women, few = read_table(data, "audits", "subgroups-table")
    assert (title.kind, title.texts[0].split(" predictions")[0]) == ("group", "Unimodal MRI, stage 1")
    assert (women.texts[0], women.texts[2]) == ("women", "80.0")
    assert few.texts[2:6] == ["–"] * 4
    assert few.texts[-1] == "too few: 7 patients, 10 wanted"


def test_age_bands_start_with_the_youngest(data):
    first = data.tables["groups"][0]
    bands = ("75 and over", "under 35", "35-44")
    rows = [first | {"by": "age", "group": band} for band in bands] + [first | {"by": "sex", "group": "M"}]
    (group,) = audits.build_groups(rows, ["stage-1"])
    labels = [row["label"] for row in group["rows"]]
    assert labels == ["men", "under 35 years", "35–44 years", "75 years and over"]


def test_one_modality_or_both(data):
    rows = read_table(data, "audits", "modalities")
    names = ["MRI alone", "CT alone", "all images, each by itself", "mean of each pair"]
    assert [row.texts[0] for row in rows] == names


def test_roc_curves_of_the_proposed_network_lead(data):
    panel = curves.build(data)["roc"][0]
    assert panel.title == "Stage 1: MRI"
    assert panel.drawings[0].count('class="band') == 0  # no band was shown to cover
    assert [entry.label for entry in panel.legend][:2] == ["Unimodal, patient folds", "Unimodal, image folds"]


def test_calibration_shows_bins_with_intervals(data):
    panel = curves.build(data)["calibration"][0]
    assert panel.drawings[0].count("<circle") == 11  # the unimodal network's bins
    assert panel.drawings[0].count("whisker") == 11
    assert "mean score 0.50: 0.81 (0.61–1.00) of 12 images" in panel.drawings[0]


def test_confusion_counts_and_shares(data):
    content = stages.build_confusion(data)
    assert (content["matrices"][0]["stage"], content["matrices"][0]["architecture"]) == ("stage-1", "unimodal")
    rows = read_section(data, "confusion").tables[None][1:]  # the last matrix, which has no name
    assert [row.texts for row in rows] == [["control", "49", "9"], ["osteoporosis", "12", "50"]]
    assert [cell.detail for cell in rows[0].cells[1:]] == ["84.5 %", "15.5 %"]
    assert len(read_table(data, "confusion", "confusion-table")) == len(content["rows"])
    empty = data.tables["confusion"][0] | {"true_positives": 0, "false_negatives": 0}
    bare = read_section(replace(data, tables=data.tables | {"confusion": [empty]}), "confusion").tables[None]
    assert [(cell.text, cell.detail) for cell in bare[2].cells[1:]] == [("0", ""), ("0", "")]


def test_the_worst_errors_stand_first_and_missing_pictures_are_told(data):
    gallery, left_out = explanations.build_gallery(data)
    assert list(gallery["osteo-unimodal-mri"]) == ["Worst errors", "Correctly classified"]
    (case,) = gallery["osteo-unimodal-mri"]["Correctly classified"]
    assert [one["method"] for one in case["pictures"]] == ["Grad-CAM++", "SmoothGrad"]
    assert [bool(one["uri"]) for one in case["pictures"]] == [True, False]
    assert left_out == 0


def test_pictures_keep_to_their_room(data, monkeypatch):
    monkeypatch.setattr(explanations, "BYTES", 10)
    gallery, left_out = explanations.build_gallery(data)
    assert left_out == 4  # what is missing is not looked for any more
    assert not any(
        one["uri"] for kinds in gallery.values() for cases in kinds.values() for c in cases for one in c["pictures"]
    )


def test_shares_and_sanity_say_what_is_not_known(data):
    shares = read_table(data, "explanations", "map-shares")
    assert [row.texts[4] for row in shares] == ["not known", "60.0", "not known", "50.0"]
    sanity = read_table(data, "explanations", "map-sanity")
    assert sanity[0].texts[2:] == ["0.21", "depends on the weights"]
    assert sanity[1].texts[2:] == ["undefined", "cannot be judged"]


def test_the_winner_has_both_figures(data):
    told = costs.describe_winner(data.search)
    assert "86.0 %, the best of 3 and optimistic" in told
    assert "Re-estimated on fresh folds: 83.0 % (78.0–88.0), −3.0 points." in told
    without = {**data.search, "reestimated_balanced_accuracy": None}
    assert costs.describe_winner(without).endswith("It was not re-estimated on fresh folds.")
    assert costs.describe_winner({}) == ""


def test_the_front_joins_what_nothing_beats(data):
    assert costs.find_front([(2, 0.8), (1, 0.7), (3, 0.75), (2.5, 0.9), (2, 0.6)]) == [
        (1, 0.7),
        (2, 0.8),
        (2.5, 0.9),
    ]
    panels = costs.build_search(data)["panels"]
    assert len(panels) == 2
    assert panels[0].drawings[0].count("<circle") == 3  # the pruned one has no accuracy
    assert panels[0].drawings[0].count('class="dot winner"') == 1


def test_candidates_are_sorted_by_accuracy_and_the_pruned_one_is_last(data):
    rows = read_table(data, "search", "candidates")
    assert [row.texts[0] for row in rows] == ["1 (winner)", "0", "2", "3"]
    assert rows[-1].texts[1:3] == ["pruned", "undefined"]


def test_the_checklist_reports_only_what_is_there(data):
    params = {"cohort": {"t_score_below": -1.0}, "evaluate": {"threshold": 0.5}}
    run = Run(synthetic=True, params=params, provenance={"git.commit": "a" * 40})
    full, real = (checklist.build(replace(data, run=one)) for one in (run, Run()))
    answers, bare = ({one.item: one for area in content["areas"].values() for one in area} for content in (full, real))
    assert answers["Outcome and how it was determined"].fact.startswith("Mean T-score of L1–L4 below -1")
    assert answers["Uncertainty of the figures"].fact.startswith(
        "95 %, Clopper-Pearson's at the effective number of pat"
    )
    assert answers["Ethics approval and consent"].state == "not applicable"
    assert answers["Funding and conflicts of interest"].state == "not reported"
    assert real["reported"] < full["reported"]
    assert bare["Ethics approval and consent"].state == "not reported"
    assert (bare["Code"].state, bare["Code"].link) == ("not reported", "")


def test_every_fact_of_the_checklist_answers_one_of_its_items(data):
    facts = checklist.collect_facts(replace(data, run=Run(synthetic=True, params={"prepare": {"crop_mm": [1, 2]}})))
    assert set(facts) <= {item for items in checklist.ITEMS.values() for item in items}


def test_every_predictions_file_is_listed_with_its_hash(data):
    rows = read_table(data, "provenance", "predictions")
    assert len(rows) == len(list(data.artifacts.glob("predictions/*/*.parquet")))
    assert all(len(row.texts[-1]) == 32 for row in rows)
    assert float(rows[0].cells[1].key) > 0


def test_times_add_up(data):
    rows = read_table(replace(data, seconds={"Audits": 0.25, "Costs": 0.5}), "provenance", "times")
    assert [row.texts for row in rows] == [["Audits", "0.250"], ["Costs", "0.500"], ["all of these", "0.750"]]
    assert "no section was timed" in read_section(replace(data, seconds={}), "provenance").text
