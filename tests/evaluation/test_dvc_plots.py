import numpy as np
import pandas as pd

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
    path.parent.mkdir(parents=True)
    table.to_parquet(path)


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
    plots = tmp_path / "evaluation" / "plots"
    assert [path.name for path in sorted((plots / "roc").iterdir())] == ["stage-1-mri.csv"]
    roc = pd.read_csv(plots / "roc" / "stage-1-mri.csv")
    assert roc["false_positive_rate"].tolist() == [round(step / 100, 2) for step in range(101)]
    assert roc["true_positive_rate"].iloc[-1] == 1 and roc["true_positive_rate"].is_monotonic_increasing
    learning = pd.read_csv(plots / "learning" / "stage-1-mri.csv")
    assert learning["epoch"].tolist() == [1, 2]
    assert learning["balanced_accuracy"].tolist() == [0.2, 0.3]
    bars = pd.read_csv(plots / "balanced_accuracy.csv")
    assert bars["job"].tolist() == ["stage-1/unimodal-mri-patient"]
    assert bars["balanced_accuracy"].iloc[0] == 1.0
