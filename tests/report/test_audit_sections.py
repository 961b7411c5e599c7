"""Audits, curves, confusion matrices, explanations, search, checklist: what each takes from its tables."""

import math

import pytest

from osteo_models.report.report_data import Facts, read_evidence
from osteo_models.report.sections import (
    audits,
    checklist,
    confusion,
    curves,
    explanations,
    provenance,
    search_results,
    subgroups,
)
from tests.conftest import STAGES


@pytest.fixture(scope="module")
def evidence(artifacts):
    return read_evidence(artifacts, STAGES)


def facts(**changes):
    given = {"provenance": {}, "params": {}, "synthetic": False, "left_out": [], "seconds": {}}
    return Facts(**given | changes)


def texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_the_widest_gap_between_the_protocols_stands_first(evidence):
    plot = audits.build_optimism(evidence.tables["image_vs_patient"])
    values = [mark.value for mark in plot.marks]
    assert values == sorted(values, reverse=True)
    assert plot.low <= min(0, *(mark.low for mark in plot.marks))
    assert plot.marks[0].source.endswith("-{image,patient}.parquet")
    assert audits.build_optimism([]) is None


def test_shortcuts_stand_below_the_image_models(evidence):
    (plot,) = audits.build_shortcuts(evidence.tables["shortcuts"])
    assert [(mark.label, mark.kind) for mark in plot.marks] == [
        ("Unimodal", "patient"),
        ("Age alone", "shortcut"),
        ("Image header alone", "shortcut"),
    ]
    assert plot.line == 0.5
    assert (plot.place(plot.low), plot.place(plot.high), plot.place(99)) == (0, 100, 100)


def test_an_undefined_shortcut_has_no_mark_but_its_note(evidence):
    rows = [
        row | dict.fromkeys(("value", "ci_low", "ci_high"), math.nan) | {"note": "undefined: the same for all images"}
        if row["predictor"] == "header"
        else row
        for row in evidence.tables["shortcuts"]
    ]
    mark = audits.build_shortcuts(rows)[0].marks[-1]
    assert (mark.text, mark.value, mark.note) == ("undefined", None, "undefined: the same for all images")


def test_what_a_network_adds_stands_with_its_paired_interval(evidence):
    age, sex = audits.build_beyond(evidence.tables["beyond"]).rows
    assert [cell.text for cell in age.cells[:6]] == ["Unimodal CT", "5", "Age alone", "0.800", "0.600", "+0.200"]
    assert age.cells[5].detail == "+0.050 to +0.350"
    assert sex.cells[2].text == "Sex alone"


def test_leaks_name_split_and_kind(evidence):
    assert texts(audits.build_shared(evidence.tables["shared"], STAGES))[0][:4] == [
        "hold-out (stage 5)",
        "patient",
        "0",
        "12",
    ]
    rows = audits.build_duplicates(evidence.tables["duplicates"], STAGES).rows
    assert [cell.text for cell in rows[0].cells][:4] == ["folds of single images", "near", "7", "0"]
    assert rows[0].cells[1].detail == "correlation from 0.999"


def test_groups_with_too_few_patients_have_a_note_and_no_figure(evidence):
    table = subgroups.build_groups(evidence.tables["groups"], ["stage-1"], "groups")
    assert table.groups[0].title == "Unimodal MRI, stage 1"
    women, few = texts(table)
    assert women[0] == "women"
    assert women[2] == "80.0"
    assert few[2:6] == ["–"] * 4
    assert few[-1] == "too few: 7 patients, 10 wanted"


def test_age_bands_stand_from_the_youngest_on(evidence):
    first = evidence.tables["groups"][0]
    bands = ("75 and over", "under 35", "35-44")
    rows = [first | {"by": "age", "group": band} for band in bands] + [first | {"by": "sex", "group": "M"}]
    found = [row[0] for row in texts(subgroups.build_groups(rows, ["stage-1"], "groups"))]
    assert found == ["men", "under 35 years", "35–44 years", "75 years and over"]


def test_one_modality_or_both(evidence):
    rows = texts(subgroups.build_modalities(evidence.tables["modalities"]))
    assert [row[0] for row in rows] == ["MRI alone", "CT alone", "both, each image by itself", "both, mean of a pair"]


def test_roc_curves_of_the_proposed_network_lead(evidence):
    panel = curves.build_roc_panels(evidence)[0]
    assert panel.title == "Stage 1: MRI"
    assert panel.drawings[0].count('class="band') == 0  # no band was shown to cover
    assert [entry.label for entry in panel.legend][:2] == ["Unimodal, patient folds", "Unimodal, image folds"]


def test_calibration_shows_bins_with_intervals(evidence):
    panel = curves.build_calibration_panels(evidence)[0]
    assert panel.drawings[0].count("<circle") == 11  # the unimodal network's bins
    assert panel.drawings[0].count("whisker") == 11
    assert "mean score 0.50: 0.81 (0.61–1.00) of 12 images" in panel.drawings[0]


def test_confusion_counts_and_shares(evidence):
    rows = evidence.tables["confusion"]
    first = confusion.build_matrices(rows)[0]
    assert first.title == "Stage 1, Unimodal MRI"
    (control, (right, alarms)), (ill, (misses, hits)) = first.rows
    assert (control, right.count, alarms.count, ill, misses.count, hits.count) == (
        "control",
        49,
        9,
        "osteoporosis",
        12,
        50,
    )
    assert right.share + alarms.share == pytest.approx(1)
    empty = rows[0] | {"true_positives": 0, "false_negatives": 0}
    assert confusion.build_matrices([empty])[0].rows[1][1][0].share is None
    assert len(confusion.build_table(rows).rows) == len(rows)


def test_the_worst_errors_stand_first_and_missing_pictures_are_told(evidence):
    gallery, left_out = explanations.build_gallery(evidence)
    assert list(gallery["osteo-unimodal-mri"]) == ["Worst errors", "Rightly classified"]
    (case,) = gallery["osteo-unimodal-mri"]["Rightly classified"]
    assert [one.method for one in case.pictures] == ["Grad-CAM++", "SmoothGrad"]
    assert [bool(one.uri) for one in case.pictures] == [True, False]
    assert left_out == 0


def test_pictures_keep_to_their_room(evidence, monkeypatch):
    monkeypatch.setattr(explanations, "BYTES", 10)
    gallery, left_out = explanations.build_gallery(evidence)
    assert left_out == 4  # what is missing is not looked for any more
    assert not any(
        one.uri for kinds in gallery.values() for cases in kinds.values() for c in cases for one in c.pictures
    )


def test_shares_and_sanity_say_what_is_not_known(evidence):
    shares = texts(explanations.build_shares(evidence.explanations.cases))
    assert [row[4] for row in shares] == ["not known", "60.0", "not known", "50.0"]
    sanity = texts(explanations.build_sanity(evidence.explanations.sanity))
    assert sanity[0][2:] == ["0.21", "depends on the weights"]
    assert sanity[1][2:] == ["undefined", "nothing can be said"]


def test_the_winner_has_both_figures(evidence):
    told = search_results.tell_winner(evidence.search.summary)
    assert "86.0 %, the best of 3 and so optimistic" in told
    assert "Estimated again on fresh folds: 83.0 % (78.0–88.0), −3.0 points." in told
    without = {**evidence.search.summary, "reestimated_balanced_accuracy": None}
    assert search_results.tell_winner(without).endswith("It was not estimated again on fresh folds.")
    assert search_results.tell_winner({}) == ""


def test_the_front_joins_what_nothing_beats(evidence):
    assert search_results._front([(2, 0.8), (1, 0.7), (3, 0.75), (2.5, 0.9), (2, 0.6)]) == [
        (1, 0.7),
        (2, 0.8),
        (2.5, 0.9),
    ]
    panels = search_results.build(evidence, facts())["panels"]
    assert len(panels) == 2
    assert panels[0].drawings[0].count("<circle") == 3  # the pruned one has no accuracy
    assert panels[0].drawings[0].count('class="dot winner"') == 1


def test_candidates_stand_by_accuracy_and_the_pruned_one_last(evidence):
    rows = texts(search_results.build_candidates(evidence.search))
    assert [row[0] for row in rows] == ["1 (winner)", "0", "2", "3"]
    assert rows[-1][1:3] == ["pruned", "undefined"]


def test_the_checklist_reports_only_what_is_there(evidence):
    params = {"cohort": {"t_score_below": -1.0}, "evaluate": {"threshold": 0.5}}
    full = checklist.build(evidence, facts(synthetic=True, params=params, provenance={"git.commit": "a" * 40}))
    found = {one.wanted: one for answers in full["areas"].values() for one in answers}
    assert found["Outcome and how it was determined"].fact.startswith("Mean T-score of L1–L4 below -1")
    assert found["Uncertainty of the figures"].fact.startswith("95 %, Clopper-Pearson's at the effective number of pat")
    assert found["Ethics approval and consent"].state == "not applicable"
    assert found["Funding and conflicts of interest"].state == "not reported"
    real = checklist.build(evidence, facts())
    assert real["reported"] < full["reported"]
    bare = {one.wanted: one for answers in real["areas"].values() for one in answers}
    assert bare["Ethics approval and consent"].state == "not reported"
    assert bare["Code"].state == "not reported"
    assert bare["Code"].link == ""


def test_every_predictions_file_is_listed_with_its_hash(evidence):
    table = provenance.build_files(evidence)
    assert len(table.rows) == len(list(evidence.artifacts.glob("predictions/*/*.parquet")))
    assert all(len(row.cells[-1].text) == 32 for row in table.rows)
    assert table.rows[0].cells[1].key > 0


def test_times_add_up():
    rows = texts(provenance.build_times(facts(seconds={"Audits": 0.25, "Costs": 0.5})))
    assert rows == [["Audits", "0.250"], ["Costs", "0.500"], ["all of these", "0.750"]]
    assert provenance.build_times(facts()).rows == []
