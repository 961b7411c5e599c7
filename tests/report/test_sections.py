"""What the sections take from the files: samples, patients, costs, learning curves."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from osteo_models.report.report_data import Run, read_report_data
from osteo_models.report.sections import (
    cohort,
    costs,
    curves,
    headline,
    patients,
)
from tests.conftest import STAGES
from tests.report.page import read_section, read_table


def read_groups(data, stage):
    """The networks of a stage's table: title, and rows."""
    groups = []
    for row in read_table(data, "stages", f"table-{stage}"):
        if row.kind == "group":
            groups.append((row.texts[0], []))
        else:
            groups[-1][1].append(row)
    return groups


def test_stage_tables_hold_ours_and_the_papers(data):
    groups = read_groups(data, "stage-1")
    title, rows = groups[0]
    assert [row.kind for row in rows] == ["patient", "image", "paper"]
    files = "predictions/stage-1/unimodal-mri-patient.parquet, predictions/stage-1/unimodal-mri-image.parquet"
    assert title == f"Unimodal MRI {files}"
    assert groups[1][0].startswith("Traditional CNN MRI predictions/")
    assert (groups[5][0], [row.kind for row in groups[5][1]]) == ("InceptionResNetV2 MRI not run", ["paper"])
    both = read_groups(data, "stage-4")[0][1]
    assert [row.texts[0] for row in both][:3] == ["Patient folds", "of these, MRI images", "of these, CT images"]
    images = [float(row.cells[-2].key) for row in both[:3]]
    assert images[0] == images[1] + images[2]


def test_the_chosen_threshold_is_next_to_the_usual_one(data):
    cell = read_groups(data, "stage-1")[0][1][0].cells[-3]
    assert (cell.text, cell.detail) == ("83.0", "78.0–88.0, at 0.41 to 0.62")


def test_the_papers_rows_never_decide_the_order(data):
    printed = [
        row for stage in STAGES.names for _, rows in read_groups(data, stage) for row in rows if row.kind == "paper"
    ]
    assert len(printed) > 6
    assert [cell.key for row in printed for cell in row.cells[1:] if cell.key] == []


def test_an_interval_that_does_not_exist_is_undefined_in_print(data):
    def spoil(row):
        if (row["stage"], row["architecture"], row["protocol"], row["level"]) != (
            "stage-1",
            "unimodal",
            "patient",
            "image",
        ):
            return row
        changes = {
            "roc_auc": {"ci_low": math.nan},
            "specificity": {"ci_low": math.nan, "ci_high": math.nan, "interval": "too few patients"},
            "brier": {"value": math.nan},
        }
        return row | changes.get(row["metric"], {})

    spoiled = replace(data, tables=data.tables | {"summary": [spoil(row) for row in data.summary]})
    row = read_groups(spoiled, "stage-1")[0][1][0]
    names = ("label", "balanced", "accuracy", "sensitivity", "specificity", "roc_auc", "hard", "brier")
    cells = dict(zip(names, row.cells, strict=False))
    assert cells["roc_auc"].detail == "undefined"
    assert cells["specificity"].detail == "too few patients"
    assert (cells["brier"].text, cells["brier"].key) == ("undefined", None)


def test_the_scale_holds_everything_shown(data):
    plot = headline.build_plot(data)
    shown = [value for mark in plot.marks for value in (mark.value, mark.low, mark.high, mark.ring, mark.printed)]
    values = [value for value in shown if value is not None]
    assert len(values) > len(plot.marks) > 3
    assert plot.ticks[0] <= min(values) and max(values) <= plot.ticks[-1] == 100
    assert (plot.place(plot.ticks[0]), plot.place(100)) == ("0.00", "100.00")


def test_stage_6_shows_each_patient_under_each_network(data):
    content = patients.build(data)
    ((_, listed),) = content["tests"]
    rows = [row for row in data.tables["patients"] if row["stage"] == "stage-6"]
    assert len(listed) == len(rows) == len(read_table(data, "patients", "stage-6-patients"))
    assert listed[0]["strip"].count("v12") == listed[0]["images_n"]  # a mark per image
    assert list(content["panels"])[:2] == ["stage-5", "stage-6"]
    plot = content["panels"]["stage-6"][0]
    assert (plot.title, plot.sources) == ("Unimodal MRI", ["predictions/stage-6/unimodal-mri-patient.parquet"])
    people = {row["patient_id"] for row in rows if (row["images"], row["modality"]) == ("mri", "mri")}
    assert plot.drawings[0].count('class="mean') == len(people)


def test_samples_span_the_ages(data):
    samples = cohort.build_samples(data)
    assert [title for title, _ in samples] == ["MRI, control", "MRI, osteoporosis", "CT, control", "CT, osteoporosis"]
    ages = [int(one["alt"].split(" of ")[-1].split()[0]) for one in samples[0][1]]
    everyone = [row["age_years"] for row in data.images if (row["modality"], row["target"]) == ("mri", 0)]
    assert ages == sorted(ages)
    assert (ages[0], ages[-1]) == (min(everyone), max(everyone))


def test_flow_counts_what_each_rule_took_out(data):
    group = cohort.build_groups(data)[0]
    assert [(step["left"], step["out"]) for step in group["steps"]] == [(1800, 0), (410, 1390), (246, 164), (62, 184)]
    assert sum(one["images"] for one in group["sets"][:2]) == group["counts"]["images"]


def test_random_weights_are_named_in_the_title_of_a_baseline(data):
    job = {"stage": "stage-1", "architecture": "resnet50", "images": "mri", "protocol": "patient", "weights": "random"}
    pretrained = job | {"stage": "stage-2", "images": "ct", "weights": "imagenet"}
    changed = replace(data, jobs=[*data.jobs, job, pretrained])
    titles = {stage: [title for title, _ in read_groups(changed, stage)] for stage in ("stage-1", "stage-2")}
    assert [title for title in titles["stage-1"] if "random" in title] == ["ResNet50 MRI, from random weights not run"]
    assert not any("random" in title for title in titles["stage-2"])


def test_costs_are_medians_next_to_the_papers(data):
    heads, *lines = read_section(data, "costs").tables["costs-table"]
    rows = {row.texts[0]: dict(zip(heads.texts, row.cells, strict=True)) for row in lines}
    seconds = sorted(
        job["seconds_per_epoch"] for job in data.jobs if job["images"] == "mri" and job["architecture"] == "unimodal"
    )
    columns = rows["Unimodal"]
    assert float(columns["MRI, s/epoch"].key) == pytest.approx((seconds[1] + seconds[2]) / 2)
    assert columns["Multimodal, s/epoch"].text == "–"
    assert columns["MACs, millions"].text == "21.0"
    assert columns["Paper, s/epoch"].key == "1.2"
    absent = rows["ResNet50"]
    assert absent["Time, min"].text == "–"
    assert (absent["Weights"].text, absent["Paper, s/epoch"].text, absent["Jobs"].key) == ("not run", "76.0", "0.0")


def test_times_are_of_all_workers_and_by_the_clock(data):
    """Each made-up epoch takes 1.4 s; of jobs side by side a minute is counted once, and none between them."""
    jobs, minutes = data.jobs, 1.4 * sum(len(curve.rows) for curve in data.curves) / 60
    rows = costs.build_costs(data)
    assert sum(row["minutes"] or 0 for row in rows) == pytest.approx(minutes)
    assert costs.describe_total(data) == f"The {len(jobs)} jobs took {minutes:.1f} min of worker time."

    together = [job | {"started": 1000.0, "ended": 1060.0 if index else 1030.0} for index, job in enumerate(jobs)]
    together[0] |= {"feature_seconds": 120.0}
    changed = replace(data, jobs=together)
    assert f"{minutes + 2:.1f} min of worker time; wall time 1.0 min" in costs.describe_total(changed)
    first = next(row for row in costs.build_costs(changed) if row["architecture"] == "unimodal")
    assert first["clock"] == "1.0 wall time" and 0 < first["minutes"] < minutes

    apart = [job | {"started": 5000.0 * index, "ended": 5000.0 * index + 6} for index, job in enumerate(jobs)]
    assert f"wall time {len(jobs) / 10:.1f} min" in costs.describe_total(replace(data, jobs=apart))


def test_learning_curves_pair_the_protocols(data):
    panels = curves.build_learning_panels(data)
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
    drawing = curves.build_learning_panels(read_report_data(root, STAGES, Run()))["stage-1"][0].drawings[0]
    assert "nan" not in drawing
    assert "inf" not in drawing


def test_versions_show_folds_and_holdout(data):
    one, other = read_table(data, "versions", "versions-table")
    assert one.texts[4:7] == ["91.3", "85.4", "–"]
    assert [cell.detail for cell in one.cells[4:6]] == ["88.1–94.2", ""]
    assert other.texts[4:6] == ["–", "–"]


def test_the_gates_failed_rules_come_first(data):
    rows = read_table(data, "versions", "rules")
    titles = [row.texts[0] for row in rows if row.kind == "group"]
    assert titles == ["osteo-unimodal-mri version 3: PROMOTE", "osteo-multimodal version 1: REJECT"]
    assert [row.texts[1] for row in rows[-2:]] == ["failed", "held"]
    assert rows[-2].texts[2] == "too few in stage-1: 12; needed 20"


def test_table_9_has_the_papers_figures_and_says_what_is_undefined(data):
    rows = [row.texts for row in read_table(data, "paper", "table-9")]
    assert rows[0][:2] == ["MRI", "image"]
    assert rows[0][7] == "0.574, 0.566"
    assert (rows[1][5], rows[1][6], rows[1][7]) == ("undefined", "undefined", "–")


def test_the_ledger_says_which_rows_cannot_be(data):
    assert "0 of 1 printed rows are possible" in read_section(data, "paper").text
    (row,) = read_table(data, "paper", "ledger")
    assert (row.texts[2], row.texts[6], row.texts[7]) == ("24 + 24", "not possible", "–, –")
    assert read_table(data, "paper", "ledger-sizes")[0].texts[1:4] == ["511 + 502", "0 of 8", "502 + 511"]


def test_an_empty_table_with_columns_is_no_fault(artifacts, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    path = root / "evaluation" / "table9.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (root / "jobs.json").write_text(json.dumps([]))
    data = read_report_data(root, STAGES, Run())
    assert "(evaluation/table9.csv)" in read_section(data, "paper").text
    assert costs.build(data) == {"rows": [], "total": ""}
