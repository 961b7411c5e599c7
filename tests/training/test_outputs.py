import json

import numpy as np
import pandas as pd
import pytest

from osteo_models.training.job_data import select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.outputs import predictions_file, write_jobs, write_model, write_outputs
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import FoldResult


@pytest.fixture
def job(small_params, tables):
    jobs = plan_jobs(small_params, tables, Recipe(epochs=2, precision="float32"))
    return next(job for job in jobs if job.stage == "stage-5" and job.name == "unimodal-mri-patient")


@pytest.fixture
def result(job, tables, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    epoch = {"train_loss": 0.5, "test_loss": 0.6, "test_balanced_accuracy": 0.7}
    history = [{"epoch": 1, **epoch, "seconds": 1.0}, {"epoch": 2, **epoch, "seconds": 3.0}]
    scores = np.full(len(select_rows(job, 0, tables).test), 0.25, dtype=np.float32)
    return FoldResult(0, scores, history, "float32", "cpu", 10, 9, weights)


def test_predictions_curves_and_what_it_cost(job, result, tables, tmp_path):
    entry = write_outputs(tmp_path, job, [result], tables)
    assert predictions_file(job).as_posix() == "predictions/stage-5/unimodal-mri-patient.parquet"
    table = pd.read_parquet(tmp_path / predictions_file(job))
    assert set(table["score"]) == {0.25} and len(table) == len(result.scores)
    curves = pd.read_csv(tmp_path / "curves" / "stage-5" / "unimodal-mri-patient.csv")
    assert curves.columns.tolist() == ["fold", "epoch", "train_loss", "test_loss", "test_balanced_accuracy", "seconds"]
    assert entry["seconds_per_epoch"] == 2.0 and entry["key"] == job.key
    assert (entry["parameters"], entry["trainable_parameters"], entry["macs"]) == (704_961, 704_705, 41_741_328)
    assert [entry[name] for name in ("weights", "weights_sha256", "transfer", "feature_seconds")] == ["none", "", "", 0]


def test_a_network_and_all_that_scoring_needs(job, result, small_params, tmp_path):
    write_model(tmp_path, job, result, prepare=small_params.prepare, threshold=0.4)
    folder = tmp_path / "models" / "unimodal-mri"
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    record = json.loads((folder / "model.json").read_text())
    assert (record["key"], record["threshold"], record["prepare"]["crop_mm"]) == (job.key, 0.4, [200.0, 150.0])


def test_jobs_stand_in_a_fixed_order(tmp_path):
    entries = [
        {"key": "2", "stage": "stage-2", "architecture": "a", "images": "ct", "protocol": "image"},
        {"key": "1", "stage": "stage-1", "architecture": "b", "images": "mri", "protocol": "patient"},
    ]
    write_jobs(tmp_path, entries)
    assert [entry["key"] for entry in json.loads((tmp_path / "jobs.json").read_text())] == ["1", "2"]
