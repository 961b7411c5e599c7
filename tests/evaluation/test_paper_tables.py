"""The paper's tables: ours in their places, the printed figures beside them as printed."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import skew
from sklearn.metrics import roc_auc_score

from osteo_models.core.terms import CLASS_NAMES
from osteo_models.evaluation import evaluate_predictions
from osteo_models.evaluation.image_facts import read_facts
from osteo_models.evaluation.paper import read_number, read_printed
from osteo_models.evaluation.paper.reproduced_tables import experiment_rows, skewness_rows
from tests.conftest import STAGES


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    made = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    made["write_study"](folder, ("unimodal", "own_network"), share=0.25)
    made["write_cohort"](folder, share=0.25)
    evaluate_predictions(folder, STAGES)
    return folder


def read(root, name):
    return pd.read_csv(root / "evaluation" / f"{name}.csv")


def test_table_1_is_the_skewness_of_each_group(root):
    table = read(root, "table1").set_index(["group", "variable", "part"])
    splits = pd.read_csv(root / "splits/splits.csv")
    rows = splits[(splits["modality"] == "ct") & (splits["target"] == 1)]
    row = table.loc[("ct_osteoporosis", "age_years", "both")]
    assert row["skewness"] == pytest.approx(skew(rows["age_years"]))
    assert (row["n"], row["n_patients"], row["paper_skewness"]) == (len(rows), rows["patient_id"].nunique(), -0.745)
    pixels = np.load(root / "cohort/images.npy").reshape(len(splits), -1).mean(axis=1)
    grey = table.loc[("ct_osteoporosis", "mean_grey", "training"), "skewness"]
    assert grey == pytest.approx(skew(pixels[rows.index[rows["holdout"] == 0]]))


def test_table_1_counts_every_group_and_part(root):
    table, splits = read(root, "table1"), pd.read_csv(root / "splits/splits.csv")
    splits["mean_grey"] = np.load(root / "cohort/images.npy").reshape(len(splits), -1).mean(axis=1)
    printed = {row["group"]: float(row["skewness"]) for row in read_printed("skewness")}
    sources = {"age_years": "splits/splits.csv", "mean_grey": "cohort/images.npy"}
    assert len(table) == 24  # two modalities, two classes, three parts, two variables
    for row in table.to_dict("records"):
        modality, name = row["group"].split("_")
        held = {"training": [0], "holdout": [1], "both": [0, 1]}[row["part"]]
        rows = splits[(splits["modality"] == modality) & (splits["target"] == CLASS_NAMES.index(name))]
        rows = rows[rows["holdout"].isin(held)]
        assert (row["n"], row["n_patients"]) == (len(rows), rows["patient_id"].nunique())
        assert (row["paper_skewness"], row["source"]) == (printed[row["group"]], sources[row["variable"]])
        values = rows[row["variable"]]
        assert row["skewness"] == pytest.approx(skew(values) if np.ptp(values) else np.nan, nan_ok=True)


def test_three_images_have_a_skewness_and_two_have_none(root):
    facts = read_facts(root)
    (rows,) = np.nonzero((facts.modality == "mri") & (facts.target == 0) & (facts.sides["holdout"] == 1))
    for count, expected in ((3, skew([40, 41, 50])), (2, None)):
        facts.age_years[rows] = np.nan
        facts.age_years[rows[:count]] = [40, 41, 50][:count]
        wanted = ("mri_control", "age_years", "holdout")
        found = {(row["group"], row["variable"], row["part"]): row for row in skewness_rows(facts)}[wanted]
        assert found.get("skewness") == (None if expected is None else pytest.approx(expected))
    assert found["note"] == "undefined: 2 image(s), or all alike"


def test_a_group_all_alike_has_no_skewness(root):
    facts = read_facts(root)
    for age in (50, np.nan):
        facts.age_years[:] = age
        ages = [row for row in skewness_rows(facts) if row["variable"] == "age_years"]
        assert len(ages) == 12  # MRI and CT, two classes, three parts
        assert all("skewness" not in row and row["note"].startswith("undefined: ") for row in ages)


def test_table_2_counts_what_is_tested(root):
    table = read(root, "table2").set_index(["stage", "images"])
    splits = pd.read_csv(root / "splits/splits.csv")
    held = splits[(splits["modality"] == "mri") & (splits["holdout"] == 1)]
    row = table.loc[("stage-5", "mri")]
    assert (row["n"], row["n_patients"], row["paper_n"]) == (len(held), held["patient_id"].nunique(), 48)
    assert table.loc[("stage-1", "mri"), "architectures"] == "own_network;unimodal"
    assert table.loc[("stage-1", "mri"), "protocols"] == "image;patient"
    pairs = pd.read_csv(root / "splits/pairs.csv")
    row = table.loc[("stage-4", "multimodal")]
    assert (row["n_pairs"], row["n"], row["paper_pairs"]) == (
        (pairs["split"] == "image").sum(),
        2 * row["n_pairs"],
        1002,
    )
    assert len(table) == 11


def test_table_2_counts_every_experiment(root):
    splits, pairs = pd.read_csv(root / "splits/splits.csv"), pd.read_csv(root / "splits/pairs.csv")
    paired = pairs.loc[pairs["split"] == "image", ["mri_image_id", "ct_image_id"]].to_numpy().ravel()
    parts = {"folds": splits["holdout"] == 0, "holdout": splits["holdout"] == 1}
    parts["patient_test"] = splits["patient_test"] == 1
    for row in read(root, "table2").to_dict("records"):
        modalities = [row["images"]] if row["images"] in ("mri", "ct") else ["mri", "ct"]
        rows = splits[parts[row["validation"]] & splits["modality"].isin(modalities)]
        if row["stage"] == "stage-4":
            rows = rows[rows["image_id"].isin(paired)]
        assert (row["n"], row["n_patients"]) == (len(rows), rows["patient_id"].nunique())
        assert np.isnan(row["n_pairs"]) == (row["stage"] != "stage-4")
        assert pd.isna(row["note"])
    nothing = list(experiment_rows([], read_facts(root), STAGES))
    assert {(row["architectures"], row["protocols"], row["note"]) for row in nothing} == {("", "", "not run")}


@pytest.mark.parametrize(("number", "stage", "images"), [(3, "stage-1", "mri"), (5, "stage-3", "combined")])
def test_stage_tables_hold_ours_and_theirs(root, number, stage, images):
    table = read(root, f"table{number}").set_index(["architecture", "protocol"])
    summary = read(root, "summary")
    ours = summary[(summary["stage"] == stage) & (summary["architecture"] == "unimodal")]
    ours = ours[(ours["protocol"] == "patient") & (ours["level"] == "image") & (ours["subset"] == "all")]
    ours = ours.set_index("metric")
    row = table.loc[("unimodal", "patient")]
    for name in ("accuracy", "sensitivity", "specificity", "balanced_accuracy", "roc_auc", "brier"):
        assert row[name] == ours.loc[name, "value"]
    assert row["sensitivity_wilson_low"] == ours.loc["sensitivity", "wilson_low"]
    assert row["roc_auc_delong_high"] == ours.loc["roc_auc", "delong_high"]
    (printed,) = [r for r in read_printed("stages") if (r["table"], r["architecture"]) == (str(number), "unimodal")]
    assert row["paper_accuracy"] == pytest.approx(float(printed["accuracy"]) / 100)
    assert row["paper_sensitivity_high"] == pytest.approx(float(printed["sensitivity_hi"]) / 100)
    assert (row["kind"], row["paper_n"]) == ("both", int(printed["n"]))
    own = table.loc[("own_network", "patient")]
    assert (own["kind"], own["note"]) == ("ours", "not in the paper")
    assert np.isnan(own["paper_accuracy"])


def test_what_was_not_run_stands_there_as_missing(root):
    table = read(root, "table3").set_index("architecture")
    row = table.loc["resnet50"]
    assert (row["kind"], row["note"], row["paper_accuracy"]) == ("paper", "not run", 0.9318)
    assert np.isnan(row["accuracy"]) and np.isnan(row["n"])
    assert len(read(root, "table7")) == 25 + 3  # one network of our own on three image sets


def test_table_8_and_10_carry_the_printed_figures(root):
    scores = read(root, "table8").set_index(["architecture", "images"])
    assert tuple(scores.loc[("unimodal", "ct"), ["paper_mean", "paper_sd"]]) == (0.952, 0.056)
    assert np.isnan(scores.loc[("own_network", "ct"), "paper_mean"])
    patients = read(root, "table10").set_index(["images", "group", "which"])
    row = patients.loc[("ct", "osteoporosis", "minimum")]
    assert tuple(row[["paper_accuracy", "paper_low", "paper_high"]]) == (0.7, 0.416, 0.984)
    totals = read(root, "table10_totals").set_index(["images", "metric"])
    row = totals.loc[("mri", "sensitivity")]
    assert (row["paper_value"], row["paper_low"]) == (0.8596, 0.769)
    summary = read(root, "summary")
    ours = summary[(summary["stage"] == "stage-6") & (summary["images"] == "mri") & (summary["level"] == "image")]
    assert row["value"] == ours.set_index("metric").loc["sensitivity", "value"]


def test_table_9_is_the_multimodal_against_the_unimodal_network(root):
    table = read(root, "table9").set_index(["subset", "level"])
    delong = read(root, "delong")
    rows = delong[(delong["stage"] == "stage-5") & (delong["second"] == "unimodal-mri")]
    row = rows[(rows["level"] == "image") & (rows["first"] == "multimodal-multimodal")].iloc[0]
    assert table.loc[("mri", "image"), "z"] == row["z"]
    assert table.loc[("mri", "image"), "auc_unimodal"] == row["auc_second"]
    assert tuple(table.loc[("mri", "patient"), ["paper_z", "paper_p_value"]]) == (0.574, 0.566)
    assert len(table) == 4


def test_table_9_and_the_totals_of_table_10_are_rows_of_other_tables(root):
    delong = read(root, "delong")
    names = {"auc_first": "auc_multimodal", "auc_second": "auc_unimodal"}
    expected = delong[(delong["stage"] == "stage-5") & (delong["first"] == "multimodal-multimodal")]
    expected, table = expected.rename(columns=names).reset_index(drop=True), read(root, "table9")
    paper = [name for name in table if name.startswith("paper_")]
    pd.testing.assert_frame_equal(table.drop(columns=paper), expected[[name for name in table if name not in paper]])
    for row in table.to_dict("records"):
        (printed,) = [each for each in read_printed("delong") if each["subset"] == row["subset"]]
        assert {name: row[name] for name in paper} == {name: float(printed[name[6:]]) for name in paper}
    summary, totals = read(root, "summary"), read(root, "table10_totals")
    expected = summary[(summary["stage"] == "stage-6") & (summary["subset"] == "all") & (summary["level"] == "image")]
    expected = expected[expected["metric"].isin(["accuracy", "sensitivity", "specificity"])].reset_index(drop=True)
    paper = [name for name in totals if name.startswith("paper_")]
    pd.testing.assert_frame_equal(totals.drop(columns=paper), expected[[name for name in totals if name not in paper]])


def test_unpaired_rows_set_mri_against_ct(root):
    table = read(root, "delong_unpaired")
    folds = table[(table["stage_first"] == "stage-1") & (table["stage_second"] == "stage-2")]
    assert set(folds["level"]) == {"image", "patient"} and set(folds["protocol"]) == {"image", "patient"}
    both = table[table["first"] == "multimodal-multimodal on mri"]
    assert set(both["second"]) == {"multimodal-multimodal on ct"}
    assert both["df"].notna().any()
    row = folds[(folds["protocol"] == "patient") & (folds["level"] == "image")].set_index("first")
    row = row.loc["unimodal-mri on mri"]
    mri, ct = (pd.read_parquet(root / row[source]) for source in ("source_first", "source_second"))
    areas = [roc_auc_score(table["target"], table["score"]) for table in (mri, ct)]
    assert (row["auc_first"], row["auc_second"]) == pytest.approx(areas)
    assert row["difference"] == pytest.approx(areas[0] - areas[1])
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert (row["n_first"], row["n_second"]) == (len(mri), len(ct))


def test_printed_figures_are_read_as_printed():
    row = {"n": "48", "mean": "0.921", "accuracy": "97.85", "empty": ""}
    assert (read_number(row, "n"), read_number(row, "mean"), read_number(row, "accuracy", 100)) == (48, 0.921, 0.9785)
    assert str(read_number(row, "n")) == "48"  # a count has no decimals
    assert (read_number(row, "empty"), read_number(row, "other"), read_number(None, "n")) == (None, None, None)
