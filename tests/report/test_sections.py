"""What the sections take from the files: samples, patients, costs, learning curves."""

import json
import shutil
from dataclasses import replace

import pytest

from osteo_models.report.report_data import Facts, read_evidence
from osteo_models.report.sections import (
    cohort,
    costs,
    headline,
    learning,
    model_versions,
    paper_tables,
    patients,
    stages,
)
from tests.conftest import STAGES

FACTS = Facts({}, {"evaluate": {"threshold": 0.5}}, True, [], {})


@pytest.fixture(scope="module")
def evidence(artifacts):
    return read_evidence(artifacts, STAGES)


def texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_stage_tables_hold_ours_and_the_papers(evidence):
    tables = stages.build_stage_tables(evidence)
    first = tables["stage-1"].groups
    assert [row.kind for row in first[0].rows] == ["patient", "image", "paper"]
    assert [group.title for group in first][:2] == ["Unimodal MRI", "Traditional CNN MRI"]
    assert first[0].files == [
        "predictions/stage-1/unimodal-mri-patient.parquet",
        "predictions/stage-1/unimodal-mri-image.parquet",
    ]
    assert ([row.kind for row in first[5].rows], first[5].files, first[5].missing) == (["paper"], [], "not run")
    both = tables["stage-4"].groups[0].rows
    assert [row.cells[0].text for row in both][:3] == ["Patient folds", "of these, MRI images", "of these, CT images"]
    assert both[0].cells[-2].key == both[1].cells[-2].key + both[2].cells[-2].key


def test_the_chosen_threshold_stands_beside_the_usual_one(evidence):
    row = stages.build_stage_tables(evidence)["stage-1"].groups[0].rows[0]
    assert (row.cells[-3].text, row.cells[-3].detail) == ("83.0", "78.0–88.0, at 0.41 to 0.62")


def test_the_papers_rows_never_decide_the_order(evidence):
    tables = stages.build_stage_tables(evidence)
    printed = {name: [row for row in table.rows if row.kind == "paper"] for name, table in tables.items()}
    assert min(len(rows) for rows in printed.values()) > 0
    assert [cell.key for rows in printed.values() for row in rows for cell in row.cells if cell.key is not None] == []


def test_an_interval_that_does_not_exist_is_undefined_in_print(evidence):
    metrics = stages.index_summary(evidence.summary)["stage-1", "unimodal", "mri", "patient", "all", "image"]
    spoiled = metrics | {"roc_auc": metrics["roc_auc"] | {"ci_low": float("nan")}}
    few = {"ci_low": float("nan"), "ci_high": float("nan"), "interval": "too few patients"}
    spoiled |= {"specificity": metrics["specificity"] | few}
    spoiled |= {"brier": metrics["brier"] | {"value": float("nan")}}
    row = stages.own_row("patient", "", spoiled, {})
    names = ("label", "balanced", "accuracy", "sensitivity", "specificity", "roc_auc", "hard", "brier")
    cells = dict(zip(names, row.cells, strict=False))
    assert cells["roc_auc"].detail == "undefined"
    assert cells["specificity"].detail == "too few patients"
    assert (cells["brier"].text, cells["brier"].key) == ("undefined", None)


def test_the_scale_holds_everything_shown(evidence):
    bars = headline.build_bars(evidence)
    scale = headline.choose_scale(bars)
    shown = [value for bar in bars for value in (bar.patient, bar.low, bar.high, bar.image, bar.paper)]
    values = [value for value in shown if value is not None]
    assert len(values) > len(bars) > 3 and scale.low <= min(values) and max(values) <= 1
    assert (scale.place(scale.low), scale.place(1)) == (0, 100)
    assert (scale.ticks[0], scale.ticks[-1]) == (scale.low, 1.0)


def test_stage_6_shows_each_patient_under_each_network(evidence):
    content = patients.build(evidence, FACTS)
    ((_, table),) = content["tests"]
    rows = [row for row in evidence.tables["patients"] if row["stage"] == "stage-6"]
    assert len(table.rows) == len(rows)
    first = table.rows[0]
    assert first.cells[-2].drawing.count("v12") == first.cells[6].key  # a mark per image
    assert list(content["panels"])[:2] == ["stage-5", "stage-6"]
    plot = content["panels"]["stage-6"][0]
    assert (plot.title, plot.sources) == ("Unimodal MRI", ["predictions/stage-6/unimodal-mri-patient.parquet"])
    people = {row["patient_id"] for row in rows if (row["images"], row["modality"]) == ("mri", "mri")}
    assert plot.drawings[0].count('class="mean') == len(people)


def test_samples_span_the_ages(evidence):
    samples = cohort.build_samples(evidence)
    assert [title for title, _ in samples] == ["MRI, control", "MRI, osteoporosis", "CT, control", "CT, osteoporosis"]
    ages = [int(one.alt.split(" of ")[-1].split()[0]) for one in samples[0][1]]
    everyone = [row["age_years"] for row in evidence.images if (row["modality"], row["target"]) == ("mri", 0)]
    assert ages == sorted(ages)
    assert (ages[0], ages[-1]) == (min(everyone), max(everyone))


def test_flow_counts_what_each_rule_took_out(evidence):
    group = cohort.build_groups(evidence)[0]
    assert [(step.left, step.out) for step in group.steps] == [(1800, 0), (410, 1390), (246, 164), (62, 184)]
    assert sum(one["images"] for one in group.sets[:2]) == group.counts["images"]


def test_random_weights_are_told_where_a_baseline_stands(evidence):
    job = {"stage": "stage-1", "architecture": "resnet50", "images": "mri", "protocol": "patient", "weights": "random"}
    unlike = [job | {"stage": "stage-2", "images": "ct", "weights": "imagenet"}]
    tables = stages.build_stage_tables(replace(evidence, jobs=[*evidence.jobs, job, *unlike]))
    titles = {stage: [group.title for group in tables[stage].groups] for stage in ("stage-1", "stage-2")}
    assert [title for title in titles["stage-1"] if "random" in title] == ["ResNet50 MRI, from random weights"]
    assert not any("random" in title for title in titles["stage-2"])


def test_costs_are_medians_beside_the_papers(evidence):
    rows = {row.cells[0].text: row.cells for row in costs.build_costs(evidence).rows}
    seconds = sorted(
        job["seconds_per_epoch"]
        for job in evidence.jobs
        if job["images"] == "mri" and job["architecture"] == "unimodal"
    )
    columns = dict(zip(costs.COLUMNS, rows["Unimodal"], strict=True))
    assert columns["MRI, s/epoch"].key == pytest.approx((seconds[1] + seconds[2]) / 2)
    assert columns["Multimodal, s/epoch"].text == "–"
    assert columns["MACs, millions"].text == "21.0"
    assert columns["Paper, s/epoch"].key == 1.2
    absent = dict(zip(costs.COLUMNS, rows["ResNet50"], strict=True))
    assert absent["Time, min"].text == "–"
    assert (absent["<Weights"].text, absent["Paper, s/epoch"].text, absent["Jobs"].key) == ("not run", "76.0", 0)


def test_times_are_of_all_workers_and_by_the_clock(evidence):
    """Each made-up epoch takes 1.4 s; of jobs side by side a minute is counted once, and none between them."""
    jobs, minutes = evidence.jobs, 1.4 * sum(len(curve.rows) for curve in evidence.curves) / 60
    cells = [row.cells[-1] for row in costs.build_costs(evidence).rows]
    assert sum(cell.key or 0 for cell in cells) == pytest.approx(minutes)
    assert costs.tell_total(evidence) == f"The {len(jobs)} jobs took {minutes:.1f} min of the workers' time."

    together = [job | {"started": 1000.0, "ended": 1060.0 if index else 1030.0} for index, job in enumerate(jobs)]
    together[0] |= {"feature_seconds": 120.0}
    changed = replace(evidence, jobs=together)
    assert f"{minutes + 2:.1f} min of the workers' time; by the clock 1.0 min" in costs.tell_total(changed)
    first = next(row.cells[-1] for row in costs.build_costs(changed).rows if row.cells[0].text == "Unimodal")
    assert first.detail == "1.0 by the clock" and 0 < first.key < minutes

    apart = [job | {"started": 5000.0 * index, "ended": 5000.0 * index + 6} for index, job in enumerate(jobs)]
    assert f"by the clock {len(jobs) / 10:.1f} min" in costs.tell_total(replace(evidence, jobs=apart))


def test_learning_curves_pair_the_protocols(evidence):
    panels = learning.build_learning_panels(evidence)
    assert sorted(panels) == [f"stage-{number}" for number in range(1, 7)]
    first = panels["stage-1"][0]
    assert first.title == "Unimodal MRI"
    assert first.sources == ["curves/stage-1/unimodal-mri-image.csv", "curves/stage-1/unimodal-mri-patient.csv"]
    assert first.drawings[0].count("dashed") == 2  # the training loss of both protocols


def test_a_diverged_fold_does_not_break_the_page(artifacts, tmp_path):

    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    path = root / "curves" / "stage-1" / "unimodal-mri-patient.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "0,1,nan,nan,0.5,1.0", "0,2,900.5,800.0,,1.0", "0,3,inf,inf,0.5,1.0"]) + "\n")
    drawing = learning.build_learning_panels(read_evidence(root, STAGES))["stage-1"][0].drawings[0]
    assert "nan" not in drawing
    assert "inf" not in drawing


def test_versions_show_folds_and_holdout(evidence):
    one, other = model_versions.build_versions(evidence.versions, STAGES).rows
    assert [cell.text for cell in one.cells[4:7]] == ["91.3", "85.4", "–"]
    assert [cell.detail for cell in one.cells[4:6]] == ["88.1–94.2", ""]
    assert [cell.text for cell in other.cells[4:6]] == ["–", "–"]


def test_the_gates_rules_are_told_the_failed_ones_first(evidence):
    table = model_versions.build_rules(evidence.versions)
    assert [group.title for group in table.groups] == [
        "osteo-unimodal-mri version 3: PROMOTE",
        "osteo-multimodal version 1: REJECT",
    ]
    assert [row.cells[1].text for row in table.groups[1].rows] == ["failed", "held"]
    assert table.groups[1].rows[0].cells[2].text == "too few in stage-1: 12; needed 20"


def test_table_9_stands_beside_the_papers_and_says_what_is_undefined(evidence):
    rows = texts(paper_tables.build_delong(evidence.tables["table9"]))
    assert rows[0][:2] == ["MRI", "image"]
    assert rows[0][7] == "0.574, 0.566"
    assert (rows[1][5], rows[1][6], rows[1][7]) == ("undefined", "undefined", "–")


def test_the_ledger_says_which_rows_cannot_be(evidence):
    content = paper_tables.build(evidence, FACTS)
    assert content["ledger_words"].startswith("0 of 1 printed rows are possible")
    (row,) = texts(content["ledger"])
    assert (row[2], row[6], row[7]) == ("24 + 24", "not possible", "–, –")
    assert texts(content["sizes"])[0][1:4] == ["511 + 502", "0 of 8", "502 + 511"]


def test_an_empty_table_with_columns_is_no_fault(artifacts, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    path = root / "evaluation" / "table9.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert paper_tables.build_delong(read_evidence(root, STAGES).tables["table9"]).rows == []
    (root / "jobs.json").write_text(json.dumps([]))
    assert costs.build_costs(read_evidence(root, STAGES)).rows == []
    assert costs.tell_total(read_evidence(root, STAGES)) == ""
