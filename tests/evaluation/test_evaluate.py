"""From tables of predictions to the files of artifacts/evaluation."""

import json
import runpy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score

from osteo_models.core.errors import InputError, StaleDataError, TableError
from osteo_models.core.stage_table import StageRow, StageTable
from osteo_models.evaluation import auc_interval, delong_test, evaluate_predictions, summarize
from osteo_models.evaluation.evaluate import COLUMNS, collect_metrics, write_table
from tests.conftest import STAGES


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    made = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    made["write_study"](root, ("unimodal", "traditional_cnn"), share=0.3)
    made["write_cohort"](root, share=0.3)
    return root, evaluate_predictions(root, STAGES).summaries


def read(root, name):
    return pd.read_csv(root / "evaluation" / f"{name}.csv")


def test_summaries_are_those_of_the_rows(evaluated):
    root, summaries = evaluated
    assert len(summaries) == len(list((root / "predictions").glob("*/*.parquet"))) == 24
    frame = pd.read_parquet(root / "predictions/stage-1/unimodal-mri-patient.parquet")
    expected = summarize(frame["target"], frame["score"], patient_id=frame["patient_id"])
    assert summaries["stage-1/unimodal-mri-patient"] == expected
    table = read(root, "summary")
    row = table[(table["source"] == "predictions/stage-1/unimodal-mri-patient.parquet") & (table["level"] == "image")]
    row = row.set_index("metric").loc["balanced_accuracy"]
    assert row["value"] == pytest.approx(balanced_accuracy_score(frame["target"], frame["score"] >= 0.5))
    assert (row["ci_low"], row["n_patients"]) == (expected.balanced_accuracy.ci_low, expected.n_patients)
    folds = [balanced_accuracy_score(part["target"], part["score"] >= 0.5) for _, part in frame.groupby("fold")]
    assert (row["fold_mean"], row["fold_sd"]) == pytest.approx((np.mean(folds), np.std(folds, ddof=1)))


def test_every_number_names_its_file(evaluated):
    root, _ = evaluated
    for name, columns in COLUMNS.items():
        table = read(root, name)
        assert list(table.columns) == list(columns)
        assert len(table) or name == "duplicate_pairs"
        for column in [column for column in columns if column.startswith("source")]:
            named = table[column].dropna().unique()
            assert all((root / source).is_file() for source in named)
            if name.startswith("table") and "note" in columns:  # what was not run has no file
                assert table[column].notna().eq(table["note"] != "not run").all() or name == "table2"
            else:
                assert table[column].notna().all()


def test_what_is_undefined_is_an_empty_cell(evaluated):
    root, _ = evaluated
    for name in COLUMNS:
        table = pd.read_csv(root / "evaluation" / f"{name}.csv", dtype=str, keep_default_na=False)
        if name == "roc":
            assert set(table.pop("threshold")) >= {"inf"}  # decides for nobody: the curve starts there
        assert not table.isin(["nan", "inf", "-inf", "None"]).to_numpy().any(), name


def test_the_patient_level_has_delongs_interval_of_patients(evaluated):
    root, _ = evaluated
    table = read(root, "summary").set_index(["source", "subset", "level", "metric"])
    row = table.loc[("predictions/stage-1/unimodal-mri-patient.parquet", "all", "patient", "roc_auc")]
    patients = read(root, "patients")
    patients = patients[patients["source"] == "predictions/stage-1/unimodal-mri-patient.parquet"]
    expected = auc_interval(patients["target"], patients["score"])
    assert (row["delong_low"], row["n"]) == (pytest.approx(expected.ci_low), len(patients))


def test_the_chosen_threshold_and_the_audits_are_metrics_of_the_job(evaluated):
    root, _ = evaluated
    found = json.loads((root / "evaluation" / "metrics" / "stage-1.json").read_text())
    chosen = read(root, "chosen").set_index(["source", "metric"])
    row = chosen.loc[("predictions/stage-1/unimodal-mri-patient.parquet", "sensitivity")]
    assert found["unimodal-mri-patient.chosen.sensitivity"] == row["value"]
    assert row["threshold_low"] <= found["unimodal-mri-patient.chosen.threshold"] <= row["threshold_high"]
    frame = pd.read_parquet(root / "predictions/stage-1/unimodal-mri-patient.parquet")
    counts = read(root, "confusion").set_index(["source", "level", "kind"])
    told = counts.loc[("predictions/stage-1/unimodal-mri-patient.parquet", "image", "chosen")]
    assert told["true_positives"] / (told["true_positives"] + told["false_negatives"]) == pytest.approx(row["value"])
    assert told[["true_positives", "false_negatives", "true_negatives", "false_positives"]].sum() == len(frame)
    optimism = read(root, "image_vs_patient").set_index(["stage", "architecture", "metric"])
    expected = optimism.loc[("stage-1", "unimodal", "balanced_accuracy"), "difference"]
    assert found["unimodal-mri-patient.optimism.balanced_accuracy"] == expected
    assert found["unimodal-mri-patient.audit.age.roc_auc"] > 0.9
    assert found["unimodal-mri-image.audit.shared.series"] > found["unimodal-mri-patient.audit.shared.series"] == 0
    audits = json.loads((root / "evaluation" / "metrics" / "audits.json").read_text())
    assert audits["shortcut.age.mri.folds.roc_auc"] == found["unimodal-mri-patient.audit.age.roc_auc"]


def test_the_chosen_threshold_has_the_intervals_of_its_own_counts(evaluated):
    root, _ = evaluated
    source = "predictions/stage-1/unimodal-mri-patient.parquet"
    chosen = read(root, "chosen").set_index(["source", "metric"])
    told = read(root, "confusion").set_index(["source", "level", "kind"]).loc[(source, "image", "chosen")]
    hits, rejections = int(told["true_positives"]), int(told["true_negatives"])
    ill, well = hits + int(told["false_negatives"]), rejections + int(told["false_positives"])
    expected = {
        "sensitivity": (hits, ill),
        "specificity": (rejections, well),
        "accuracy": (hits + rejections, ill + well),
    }
    for name, (right, of) in expected.items():
        wilson = binomtest(right, of).proportion_ci(method="wilson")
        assert tuple(chosen.loc[(source, name), ["wilson_low", "wilson_high"]]) == pytest.approx(tuple(wilson))


def test_without_splits_there_are_predictions_tables_alone(tmp_path, job, images):
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    for name in ("duplicates", "shared", "groups", "table1", "table2"):
        assert read(tmp_path, name).empty
    assert len(read(tmp_path, "ledger")) == 50
    assert set(read(tmp_path, "shortcuts")["kind"]) == {"image model"}


def test_a_planted_duplicate_is_listed_with_both_images(tmp_path, job, cohort):
    table = cohort(tmp_path, 0.1)
    place = tmp_path / "cohort" / "images.npy"
    pixels = np.load(place)
    training, held = table.index[table["holdout"] == 0][3], table.index[table["holdout"] == 1][0]
    pixels[training] = pixels[held]
    np.save(place, pixels)
    mri = table[["image_id", "patient_id", "modality", "target"]][table["holdout"] == 0]
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", mri, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    (row,) = read(tmp_path, "duplicate_pairs").to_dict("records")
    first, second = table.loc[sorted((training, held))].to_dict("records")
    assert (row["image_id_a"], row["image_id_b"]) == (first["image_id"], second["image_id"])
    assert (row["patient_a"], row["patient_b"]) == (first["patient_id"], second["patient_id"])
    assert (row["modality"], row["exact"], row["splits"]) == (first["modality"], 1, "holdout")
    assert (row["correlation"], row["source"]) == (pytest.approx(1), "cohort/images.npy")


def test_the_default_threshold_is_the_one_that_was_given_and_every_section_is_timed(tmp_path, job, images):
    path = job(tmp_path, "stage-5", "unimodal", "mri", "patient", images, 2.0)
    began = time.perf_counter()
    seconds = evaluate_predictions(tmp_path, STAGES, threshold=0.3).seconds
    passed = time.perf_counter() - began
    assert list(seconds) == ["reading", "metrics", "comparisons", "audits", "paper tables", "writing"]
    assert min(seconds.values()) >= 0 and 0.5 * passed < sum(seconds.values()) <= passed
    frame = pd.read_parquet(path)
    told = read(tmp_path, "confusion").set_index(["level", "kind"]).loc[("image", "default")]
    assert told["true_positives"] == ((frame["score"] >= 0.3) & (frame["target"] == 1)).sum()
    assert told["false_positives"] == ((frame["score"] >= 0.3) & (frame["target"] == 0)).sum()
    assert set(read(tmp_path, "summary")["threshold"]) == {0.3}


def test_the_files_are_written_as_text_that_can_be_compared(tmp_path, job, images):
    job(tmp_path, "stage-5", "unimodal", "mri", "patient", images, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    path = tmp_path / "evaluation" / "metrics" / "stage-5.json"
    assert path.read_text() == json.dumps(json.loads(path.read_text()), indent=2) + "\n"
    assert (tmp_path / "evaluation" / "metrics" / "stage-1.json").read_text() == "{}\n"
    write_table(tmp_path / "new" / "one.csv", ("a", "b"), [{"a": 1.5, "b": None}, {"b": "x,y"}])
    assert (tmp_path / "new" / "one.csv").read_bytes() == b'a,b\n1.5,\n,"x,y"\n'
    with pytest.raises(ValueError, match="fields not in fieldnames: 'c'"):
        write_table(tmp_path / "new" / "one.csv", ("a", "b"), [{"c": 1}])
    assert (tmp_path / "new" / "one.csv").read_bytes() == b'a,b\n1.5,\n,"x,y"\n'
    assert not [path for path in tmp_path.glob("evaluation/*") if path.suffix != ".csv" and path.is_file()]


def test_predictions_of_other_images_than_the_splits_are_refused(tmp_path, job, images, cohort):
    cohort(tmp_path, 0.1)
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    with pytest.raises(TableError, match="of the predictions are unknown, such as"):
        evaluate_predictions(tmp_path, STAGES)
    assert not (tmp_path / "evaluation").exists()


def test_metrics_are_flat_numbers_per_stage(evaluated):
    root, summaries = evaluated
    for stage in range(1, 7):
        found = json.loads((root / "evaluation" / "metrics" / f"stage-{stage}.json").read_text())
        assert found
        assert all(isinstance(value, float) for value in found.values())
    found = json.loads((root / "evaluation" / "metrics" / "stage-4.json").read_text())
    expected = summaries["stage-4/multimodal-multimodal-patient"].balanced_accuracy
    assert found["multimodal-multimodal-patient.balanced_accuracy"] == expected.value
    assert found["multimodal-multimodal-patient.balanced_accuracy.ci_low"] == expected.ci_low


def test_two_modalities_are_also_told_apart(evaluated):
    root, summaries = evaluated
    table = read(root, "summary")
    both = table[(table["images"] == "multimodal") & (table["stage"] == "stage-5") & (table["metric"] == "accuracy")]
    counts = both.set_index(["subset", "level"])["n"]
    assert counts["mri", "image"] + counts["ct", "image"] == counts["all", "image"]
    assert counts["all", "patient"] == summaries["stage-5/multimodal-multimodal-patient"].n_patients


def test_optimism_is_image_minus_patient_on_the_same_patients(evaluated):
    root, summaries = evaluated
    table = read(root, "image_vs_patient").set_index(["stage", "architecture", "metric"])
    row = table.loc[("stage-1", "unimodal", "balanced_accuracy")]
    image = summaries["stage-1/unimodal-mri-image"].balanced_accuracy
    patient = summaries["stage-1/unimodal-mri-patient"].balanced_accuracy
    assert row["difference"] == pytest.approx(image.value - patient.value)
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["difference"] > 0.05  # the image protocol of the made-up scores is better


def test_a_patient_of_one_protocol_only_still_counts(tmp_path, job, images):
    write_job = job
    write_job(tmp_path, "stage-1", "unimodal", "mri", "image", images, 3.0)
    fewer = images[images["patient_id"] != "Pmri0000"]
    write_job(tmp_path, "stage-1", "unimodal", "mri", "patient", fewer, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    row = read(tmp_path, "image_vs_patient").iloc[0]
    assert (row["n_patients"], row["n_image"] - row["n_patient"]) == (115, (images["patient_id"] == "Pmri0000").sum())
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_delong_pairs_by_image_and_warns_of_clusters(evaluated):
    root, _ = evaluated
    table = read(root, "delong")
    rows = table[(table["stage"] == "stage-5") & (table["second"] == "unimodal-mri")]
    image, patient = rows[rows["level"] == "image"].iloc[0], rows[rows["level"] == "patient"].iloc[0]
    both = pd.read_parquet(root / "predictions/stage-5/multimodal-multimodal-patient.parquet")
    alone = pd.read_parquet(root / "predictions/stage-5/unimodal-mri-patient.parquet")
    merged = both.merge(alone, on="image_id")
    expected = delong_test(merged["target_x"], merged["score_x"], merged["score_y"])
    assert (image["z"], image["p_value"]) == pytest.approx((expected.z, expected.p_value))
    assert (image["n"], patient["n"]) == (len(merged), merged["patient_id_x"].nunique())
    assert image["note"].startswith("images of one patient are not independent")
    assert pd.isna(patient["note"])


def test_confidence_of_the_right_ones_is_that_of_their_class(evaluated):
    root, _ = evaluated
    frame = pd.read_parquet(root / "predictions/stage-5/unimodal-ct-patient.parquet")
    right = frame[(frame["score"] >= 0.5) == (frame["target"] == 1)]
    confidence = right["score"].where(right["target"] == 1, 1 - right["score"])
    row = read(root, "table8").set_index(["architecture", "images"]).loc[("unimodal", "ct")]
    assert (row["mean"], row["sd"]) == pytest.approx((confidence.mean(), confidence.std()))
    assert (row["n_correct"], row["n"]) == (len(right), len(frame))
    assert row["n_patients"] == frame["patient_id"].nunique()


def test_one_class_is_told_as_undefined_and_nothing_is_made_up(tmp_path, job, images):
    job(tmp_path, "stage-5", "unimodal", "mri", "patient", images[images["target"] == 1], 2.0)
    job(tmp_path, "stage-5", "traditional_cnn", "mri", "patient", images[images["target"] == 1], 1.0)
    evaluate_predictions(tmp_path, STAGES)
    table = read(tmp_path, "summary").set_index(["architecture", "level", "metric"])
    row = table.loc[("unimodal", "image", "roc_auc")]
    assert np.isnan(row["value"])
    assert row["interval"] == "undefined"
    assert read(tmp_path, "delong")["note"].str.contains(r"undefined: class 0 has 0 case\(s\)").all()
    assert read(tmp_path, "roc").empty


def test_a_stage_that_is_gone_leaves_no_metrics(tmp_path, job, images):
    path = job(tmp_path, "stage-2", "unimodal", "ct", "patient", images, 2.0)
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    path.unlink()
    evaluate_predictions(tmp_path, STAGES)
    found = {one.stem: json.loads(one.read_text()) for one in (tmp_path / "evaluation" / "metrics").iterdir()}
    assert sorted(found) == ["audits", *(f"stage-{number}" for number in range(1, 7))]
    assert [stage for stage, metrics in found.items() if metrics] == ["stage-1"]


def test_the_metrics_of_a_model_are_collected_from_its_stages(evaluated):
    root, summaries = evaluated
    found = collect_metrics(root, ("stage-1", "stage-2", "stage-5"), "unimodal", "mri")
    for name, prefix in (("stage-1", "stage_1"), ("stage-5", "stage_5")):
        expected = summaries[f"{name}/unimodal-mri-patient"].balanced_accuracy
        assert found[f"{prefix}.patient.balanced_accuracy"] == expected.value
        assert found[f"{prefix}.patient.balanced_accuracy.ci_low"] == expected.ci_low
    image = summaries["stage-1/unimodal-mri-image"].balanced_accuracy
    assert found["stage_1.image.balanced_accuracy"] == image.value
    written = json.loads((root / "evaluation" / "metrics" / "stage-1.json").read_text())
    of_model = [name for name in written if name.startswith(("unimodal-mri-patient.", "unimodal-mri-image."))]
    assert sum(name.startswith("stage_1.") for name in found) == len(of_model)
    assert {name.partition(".")[0] for name in found} == {"stage_1", "stage_5"}  # no MRI in stage 2


def test_a_missing_file_of_metrics_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(StaleDataError, match=r"stage-1\.json: file not found; run `dvc repro evaluate`"):
        collect_metrics(tmp_path, ("stage-1",), "unimodal", "mri")


SEVENTH = StageRow("stage-7", "holdout", ("mri",), ("unimodal",))


def test_a_stage_of_its_own_is_evaluated_and_audited_by_its_validation(tmp_path, job, cohort):
    stages = StageTable((*STAGES.rows, SEVENTH))
    table = cohort(tmp_path, 0.3)
    images = table[["image_id", "patient_id", "modality", "target"]]
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images[table["holdout"] == 0], 2.0)
    for stage in ("stage-5", "stage-7"):
        job(tmp_path, stage, "unimodal", "mri", "patient", images[table["holdout"] == 1], 2.0, stages=stages)
    metrics = evaluate_predictions(tmp_path, stages).metrics
    of_fifth, of_seventh = (
        {name: value for name, value in metrics[f"{stage}/unimodal-mri-patient"].items() if name.startswith("audit.")}
        for stage in ("stage-5", "stage-7")
    )
    own = {name for name in of_fifth if not name.startswith("audit.beyond_")}  # those that depend on the split alone
    assert len(own) > 8 and {of_fifth[name] == of_seventh[name] for name in own} == {True}
    assert of_fifth.keys() == of_seventh.keys()
    shortcuts = read(tmp_path, "shortcuts")
    assert set(shortcuts[shortcuts["source"].str.contains("stage-7")]["validation"]) == {"holdout"}
    chosen = read(tmp_path, "chosen")
    assert set(chosen[chosen["stage"] == "stage-7"]["source_threshold"]) == {
        "predictions/stage-1/unimodal-mri-patient.parquet"
    }
    assert json.loads((tmp_path / "evaluation" / "metrics" / "stage-7.json").read_text())
    assert read(tmp_path, "table8")["stage"].tolist() == ["stage-5"]  # the paper's table is of that stage alone


def test_predictions_of_a_stage_that_is_not_in_the_table_are_refused(tmp_path, job, images):
    stages = StageTable((*STAGES.rows, SEVENTH))
    job(tmp_path, "stage-7", "unimodal", "mri", "patient", images, 2.0, stages=stages)
    with pytest.raises(TableError, match=r"stage-7 has validation holdout, no row in params\.yaml; run `dvc repro exp"):
        evaluate_predictions(tmp_path, STAGES)
    changed = StageTable((*STAGES.rows, replace(SEVENTH, validation="folds")))
    with pytest.raises(TableError, match=r"stage-7 has validation holdout, folds in params\.yaml"):
        evaluate_predictions(tmp_path, changed)
    evaluate_predictions(tmp_path, stages)
    (tmp_path / "predictions" / "stage-7").rename(tmp_path / "gone")
    job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    evaluate_predictions(tmp_path, STAGES)
    assert not (tmp_path / "evaluation" / "metrics" / "stage-7.json").exists()


def test_a_file_without_its_validation_is_refused(tmp_path, job, images):
    path = job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    table = pd.read_parquet(path)
    table.attrs = {}
    table.to_parquet(path, index=False)
    with pytest.raises(TableError, match=r"its metadata gives validation None; allowed: folds, holdout, patient_test"):
        evaluate_predictions(tmp_path, STAGES)


def test_no_predictions_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"no predictions found; allowed: .*; run the experiments first"):
        evaluate_predictions(tmp_path, STAGES)


def change(frame, column, value):
    frame[column] = frame[column].astype(object)
    frame.loc[frame.index[0], column] = value
    return frame


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: f.drop(columns=["score", "fold"]), "missing column(s): fold, score"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: change(f, "score", float("nan")), "score is nan in row 0 (1 such); allowed: numbers in [0, 1]"),
        (lambda f: f.assign(score=f["score"] * 3), "allowed: numbers in [0, 1]"),
        (lambda f: change(f, "target", 2), "target is 2 in row 0 (1 such); allowed: 0 or 1"),
        (lambda f: f.assign(fold=-1), "fold is -1 in row 0"),
        (lambda f: f.assign(fold="a"), "fold holds values that are not numbers"),
        (lambda f: f.assign(modality="MR"), "modality has MR; allowed: mri, ct"),
        (lambda f: f.assign(patient_id=None), "patient_id is empty in"),
        (lambda f: f.assign(image_id="one"), "image(s) more than once, such as one"),
        (lambda f: f.assign(patient_id="P1"), "1 patient(s) with both targets: P1"),
        (lambda f: change(f, "protocol", "image"), "protocol has several values: image, patient"),
        (lambda f: f.assign(architecture="other"), "its rows belong to predictions/stage-1/other-mri-patient.parquet"),
    ],
)
def test_faulty_tables_are_refused_before_anything_is_written(tmp_path, job, images, spoil, told):
    job(tmp_path, "stage-2", "unimodal", "ct", "image", images, 2.0)
    path = job(tmp_path, "stage-1", "unimodal", "mri", "patient", images, 2.0)
    spoil(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(TableError) as caught:
        evaluate_predictions(tmp_path, STAGES)
    assert told in str(caught.value)
    assert "predictions/stage-1/unimodal-mri-patient.parquet: " in str(caught.value)
    assert not any((tmp_path / name).exists() for name in ("evaluation", "metrics", "plots"))


def test_faults_of_all_files_come_together(tmp_path, job, images):
    for stage, kind in (("stage-1", "mri"), ("stage-2", "ct")):
        job(tmp_path, stage, "unimodal", kind, "patient", images, 2.0).write_bytes(b"PAR1 no table")
    with pytest.raises(TableError) as caught:
        evaluate_predictions(tmp_path, STAGES)
    assert str(caught.value).count("not a readable parquet file") == 2
    assert "run the jobs of these files again" in str(caught.value)
