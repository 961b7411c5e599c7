"""What the sections take from the files: samples, patients, costs, learning curves."""

import json
import shutil

import pytest

from osteo_models.report import cohort, headline, sections, tables
from osteo_models.report.evidence import read_evidence


@pytest.fixture(scope="module")
def evidence(artifacts):
    return read_evidence(artifacts)


def test_stage_tables_hold_ours_and_the_papers(evidence):
    first = tables.build_stage_tables(evidence)[0]
    assert [row.kind for row in first.networks[0].rows] == ["patient", "image", "paper"]
    assert [network.title for network in first.networks][:2] == ["Unimodal MRI", "Traditional CNN MRI"]
    assert first.networks[0].sources == [
        "predictions/stage-1/unimodal-mri-patient.parquet",
        "predictions/stage-1/unimodal-mri-image.parquet",
    ]
    assert (first.networks[5].rows[0].kind, first.networks[5].sources) == ("paper", [])
    both = tables.build_stage_tables(evidence)[3].networks[0]
    assert [row.label for row in both.rows][:3] == ["Patient folds", "of these, MRI images", "of these, CT images"]
    assert both.rows[0].n == both.rows[1].n + both.rows[2].n


def test_an_interval_that_does_not_exist_is_undefined_in_print(evidence):
    metrics = tables.index_summary(evidence.summary)["stage-1", "unimodal", "mri", "patient", "all", "image"]
    spoiled = metrics | {"roc_auc": metrics["roc_auc"] | {"ci_low": float("nan")}}
    spoiled |= {"specificity": metrics["specificity"] | {"interval": "wilson_patients"}}
    row = tables._own_row("patient", "", spoiled)
    cells = dict(zip(("balanced", "accuracy", "sensitivity", "specificity", "roc_auc"), row.cells, strict=False))
    assert cells["roc_auc"].interval == "undefined"
    assert cells["specificity"].mark == "†"


def test_the_scale_holds_everything_shown(evidence):
    bars = headline.build_bars(evidence)
    scale = headline.choose_scale(bars)
    for bar in bars:
        for value in (bar.patient, bar.low, bar.high, bar.image, bar.paper):
            assert value is None or scale.low <= value <= 1
    assert (scale.place(scale.low), scale.place(1)) == (0, 100)
    assert (scale.ticks[0], scale.ticks[-1]) == (scale.low, 1.0)


def test_stage_6_shows_each_patient_under_each_network(evidence):
    patients = cohort.build_patients(evidence)
    multimodal = [
        row for row in evidence.tables["patients"] if row["stage"] == "stage-6" and row["images"] == "multimodal"
    ]
    assert len(patients) == len(multimodal)
    assert all(one["networks"][0]["network"] == "Multimodal" for one in patients)
    one = patients[0]["networks"][0]
    assert one["strip"].count("v12") == one["images_n"]  # a mark per image


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


def test_costs_are_medians_beside_the_papers(evidence):
    rows = {row["architecture"]: row for row in sections.build_costs(evidence)}
    seconds = sorted(
        job["seconds_per_epoch"]
        for job in evidence.jobs
        if job["images"] == "mri" and job["architecture"] == "unimodal"
    )
    assert rows["Unimodal"]["seconds"]["mri"] == pytest.approx((seconds[1] + seconds[2]) / 2)
    assert (rows["Unimodal"]["paper"], rows["Multimodal"]["paper"]) == (1.2, 2.1)
    assert rows["Unimodal"]["seconds"]["multimodal"] is None


def test_learning_curves_pair_the_protocols(evidence):
    panels = sections.build_learning_panels(evidence)
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
    drawing = sections.build_learning_panels(read_evidence(root))["stage-1"][0].drawings[0]
    assert "nan" not in drawing
    assert "inf" not in drawing


def test_versions_show_folds_and_holdout(evidence):
    one, other = sections.build_versions(evidence)
    assert (one["folds"], one["folds_interval"], one["holdout"], one["holdout_interval"]) == (
        "91.3",
        "88.1–94.2",
        "85.4",
        "",
    )
    assert (other["folds"], other["holdout"]) == ("–", "–")


def test_delong_rows_of_the_hold_out_stand_beside_table_9(evidence):
    rows = sections.build_delong_table(evidence)
    assert {(row["subset"], row["level"]) for row in rows} == {
        (subset, level) for subset in ("mri", "ct") for level in ("image", "patient")
    }
    assert {row["subset"]: row["printed"]["z"] for row in rows} == {"mri": 0.574, "ct": 0.444}


def test_an_empty_table_with_columns_is_no_fault(artifacts, tmp_path):

    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    path = root / "evaluation" / "delong.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert sections.build_delong_table(read_evidence(root)) == []
    (root / "jobs.json").write_text(json.dumps([]))
    assert sections.build_costs(read_evidence(root)) == []
