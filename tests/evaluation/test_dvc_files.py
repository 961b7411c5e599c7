import json

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from osteo_models.evaluation.evaluate import evaluate_predictions
from tests.conftest import STAGES


def write_job(artifacts, stage, name, rng):
    architecture, images, protocol = name.split("-")
    rows = [
        (stage, architecture, images, protocol, fold, f"{patient}-{number}", f"p{patient}", "mri", patient % 2)
        for fold in range(2)
        for patient in range(fold * 10, fold * 10 + 10)
        for number in range(3)
    ]
    columns = ["stage", "architecture", "images", "protocol", "fold", "image_id", "patient_id", "modality", "target"]
    table = pd.DataFrame(rows, columns=columns)
    table["score"] = (0.25 + 0.5 * table["target"] + rng.uniform(-0.2, 0.2, len(table))).clip(0, 1)
    table.attrs["validation"] = "folds"
    path = artifacts / "predictions" / stage / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return table


def test_one_file_a_cross_validation_and_none_where_it_was_not_run(tmp_path):
    write_job(tmp_path, "stage-1", "unimodal-mri-patient", np.random.default_rng(1))
    curves = tmp_path / "curves" / "stage-1"
    curves.mkdir(parents=True)
    history = [
        {"fold": fold, "epoch": epoch, "test_balanced_accuracy": 0.1 * epoch + 0.2 * fold}
        for fold in (0, 1)
        for epoch in (1, 2)
    ]
    pd.DataFrame(history).to_csv(curves / "unimodal-mri-patient.csv", index=False)
    evaluate_predictions(tmp_path, STAGES)
    plots = tmp_path / "plots"
    assert [path.name for path in sorted((plots / "roc").iterdir())] == ["stage-1-mri.csv"]
    roc = pd.read_csv(plots / "roc" / "stage-1-mri.csv")
    assert roc["false_positive_rate"].tolist() == [round(step / 100, 2) for step in range(101)]
    assert roc["true_positive_rate"].iloc[-1] == 1 and roc["true_positive_rate"].is_monotonic_increasing
    learning = pd.read_csv(plots / "learning" / "stage-1-mri.csv")
    assert learning["epoch"].tolist() == [1, 2]
    assert learning["balanced_accuracy"].tolist() == [0.2, 0.3]
    bars = pd.read_csv(plots / "balanced_accuracy.csv")
    assert [list(table) for table in (roc, learning, bars)] == [
        ["false_positive_rate", "true_positive_rate"],
        ["epoch", "balanced_accuracy"],
        ["job", "balanced_accuracy"],
    ]
    assert bars["job"].tolist() == ["stage-1/unimodal-mri-patient"]
    assert bars["balanced_accuracy"].iloc[0] == 1.0


def test_only_cross_validation_of_the_proposed_network_by_patients_has_its_curve_on_a_grid(tmp_path):
    rng = np.random.default_rng(2)
    table = write_job(tmp_path, "stage-1", "unimodal-mri-patient", rng)
    for name in ("unimodal-mri-image", "traditional_cnn-mri-patient"):
        write_job(tmp_path, "stage-1", name, rng)
    table["score"] = rng.uniform(0, 1, len(table)).round(2)
    table.to_parquet(tmp_path / "predictions" / "stage-1" / "unimodal-mri-patient.parquet")
    plots = tmp_path / "plots"
    for folder in ("roc", "learning"):
        (plots / folder).mkdir(parents=True)
        (plots / folder / "stage-9-ct.csv").write_text("of a stage that is gone")
    evaluate_predictions(tmp_path, STAGES)
    assert [path.relative_to(plots).as_posix() for path in sorted(plots.rglob("*.csv"))] == [
        *("balanced_accuracy.csv", "roc/stage-1-mri.csv")
    ]
    alarms, hits, _ = roc_curve(table["target"], table["score"])
    roc = pd.read_csv(plots / "roc" / "stage-1-mri.csv")
    expected = np.interp(np.arange(101) / 100, alarms, hits)
    assert np.abs(roc["true_positive_rate"] - expected).max() <= 0.5e-4 + 1e-12
    assert len(pd.read_csv(plots / "balanced_accuracy.csv")) == 3


def test_the_headline_holds_proposed_networks_on_patients_that_they_were_not_trained_on(tmp_path):
    rng = np.random.default_rng(4)
    for name in ("unimodal-mri-patient", "unimodal-mri-image", "traditional_cnn-mri-patient"):
        write_job(tmp_path, "stage-1", name, rng)
    evaluation = evaluate_predictions(tmp_path, STAGES)
    headline = json.loads((tmp_path / "metrics" / "evaluation.json").read_text())
    summary = evaluation.summaries["stage-1/unimodal-mri-patient"]
    accuracy = summary.balanced_accuracy
    values = [accuracy.value, accuracy.ci_low, accuracy.ci_high, summary.roc_auc.value]
    names = ["balanced_accuracy", "ci_low", "ci_high", "roc_auc"]
    assert headline == {"stage-1": {"mri": dict(zip(names, [round(value, 4) for value in values], strict=True))}}


def test_one_class_has_a_grid_without_a_curve(tmp_path):
    table = write_job(tmp_path, "stage-1", "unimodal-mri-patient", np.random.default_rng(3))
    table = table[table["target"] == 1]
    table.attrs["validation"] = "folds"
    table.to_parquet(tmp_path / "predictions" / "stage-1" / "unimodal-mri-patient.parquet")
    evaluate_predictions(tmp_path, STAGES)
    roc = pd.read_csv(tmp_path / "plots" / "roc" / "stage-1-mri.csv")
    assert len(roc) == 101 and roc["true_positive_rate"].isna().all()
