"""A made-up artifacts folder: predictions evaluated for real, and everything else that the page shows."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from osteo_models.evaluation import evaluate_predictions
from osteo_models.report.report_data import Run, read_report_data
from tests.conftest import STAGES
from tests.report.frames import write_explanations, write_frames, write_search

STUDY = runpy.run_path(str(Path(__file__).parents[1] / "evaluation" / "conftest.py"))
PARAMS = {
    "profile": "quick",
    "experiments": {"seed": 2023, "batch_size": 16, "resources": {"cpu": 1, "gpu": 0}},
    "gate": [{"rule": "minimum", "stages": ["stage-5"], "value": 0.8}],
}
PROVENANCE = {"git.commit": "0123456789abcdef", "data (DVC md5)": "d41d8cd98f00b204e9800998ecf8427e.dir"}


def write_cohort(artifacts: Path) -> None:
    """Images with a bright column, their table, the splits and the selection."""
    rng = np.random.default_rng(4)
    images = STUDY["make_images"](0.3)
    age = {patient: int(rng.integers(20, 44)) + 25 * int("1" in patient[1:5]) for patient in images["patient_id"]}
    images["age_years"] = images["patient_id"].map(age)
    images["sex"] = np.where(images["patient_id"].str[-1].isin(list("02468")), "F", "M")
    images["path"] = images["patient_id"] + "/slice.dcm"
    folder = artifacts / "cohort"
    folder.mkdir(parents=True)
    images.to_csv(folder / "images.csv", index=False)
    shape = 90 + 90 * (np.abs(np.arange(60) - 30) < 12)[None, :] * (np.arange(80) % 16 > 3)[:, None]
    pixels = shape + rng.normal(0, 18, (len(images), 80, 60)) + 20 * images["target"].to_numpy()[:, None, None]
    np.save(folder / "images.npy", np.clip(pixels, 0, 255).astype(np.uint8))
    rules = ("examined", "mean T-score of L1-L4 below the threshold", "no excluded finding", "imaged near the DXA")
    flow = {
        f"{modality}_{name}": [
            {"rule": rule, "left": left} for rule, left in zip(rules, (1800, 410, 246, last), strict=True)
        ]
        for modality, name, last in (
            ("mri", "osteoporosis", 62),
            ("mri", "control", 58),
            ("ct", "osteoporosis", 50),
            ("ct", "control", 50),
        )
    }
    (folder / "selection.json").write_text(json.dumps(flow))
    last = images["patient_id"].str[-1]
    splits = images.drop(columns="path").assign(
        holdout=(last == "3").astype(int), patient_test=(last == "4").astype(int), fold_image=0, fold_patient=0
    )
    (artifacts / "splits").mkdir()
    splits.to_csv(artifacts / "splits" / "splits.csv", index=False)


def write_training(artifacts: Path) -> None:
    """Learning curves and costs of every predictions file."""
    jobs = []
    for path in sorted(artifacts.glob("predictions/*/*.parquet")):
        stage, (architecture, images, protocol) = path.parent.name, path.stem.rsplit("-", 2)
        rng = np.random.default_rng(len(jobs))
        rows = []
        for fold in range(STAGES.find(stage).folds):
            for epoch in range(1, 21):
                train = 0.6 * np.exp(-epoch / 4) + 0.02 + rng.normal(0, 0.004)
                gap = 0.08 if protocol == "image" else 0.18
                score = 0.97 - gap / 2 - 0.35 * np.exp(-epoch / 2.5) + rng.normal(0, 0.015)
                rows.append((fold, epoch, train, train + gap + rng.normal(0, 0.03), min(1.0, score), 1.4))
        columns = ["fold", "epoch", "train_loss", "test_loss", "test_balanced_accuracy", "seconds"]
        folder = artifacts / "curves" / stage
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=columns).to_csv(folder / f"{path.stem}.csv", index=False)
        jobs.append(
            {
                "key": f"{len(jobs):08x}",
                "stage": stage,
                "architecture": architecture,
                "images": images,
                "protocol": protocol,
                "epochs": 20,
                "precision": "bfloat16",
                "parameters": 1_409_922 if architecture == "multimodal" else 704_961,
                "trainable_parameters": 1_409_410 if architecture == "multimodal" else 704_705,
                "seconds_per_epoch": 1.4 + 0.1 * len(jobs),
                "macs": 21_000_000,
                "profile": "quick",
            }
        )
    (artifacts / "jobs.json").write_text(json.dumps(jobs))


def write_versions(artifacts: Path) -> None:
    """Two registered versions."""
    metrics = {
        "stage_1.patient.balanced_accuracy": 0.913,
        "stage_1.patient.balanced_accuracy.ci_low": 0.881,
        "stage_1.patient.balanced_accuracy.ci_high": 0.942,
        "stage_5.patient.balanced_accuracy": 0.854,
    }
    held = {"rule": "minimum balanced_accuracy (stage-1)", "passed": True, "why": "stage-1 0.913; needed 0.7"}
    failed = {"rule": "patients (stage-1)", "passed": False, "why": "too few in stage-1: 12; needed 20"}
    versions = [
        {"name": "osteo-unimodal-mri", "version": "3", "alias": "champion", "verdict": "PROMOTE", "metrics": metrics},
        {"name": "osteo-multimodal", "version": "1", "alias": "challenger", "verdict": "REJECT", "metrics": {}},
    ]
    versions[0]["rules"], versions[1]["rules"] = [held], [held, failed]
    (artifacts / "register.json").write_text(json.dumps(versions))


def write_all(artifacts: Path, architectures: tuple[str, ...] = ("unimodal", "traditional_cnn"), share: float = 0.3):
    """A whole artifacts folder."""
    STUDY["write_study"](artifacts, architectures, share)
    evaluate_predictions(artifacts, STAGES)
    write_frames(artifacts)
    write_search(artifacts)
    write_explanations(artifacts)
    write_cohort(artifacts)
    write_training(artifacts)
    write_versions(artifacts)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    write_all(root)
    return root


@pytest.fixture(scope="session")
def data(artifacts):
    """The artifacts as read for the page."""
    return read_report_data(artifacts, STAGES, Run(params={"evaluate": {"threshold": 0.5}}, synthetic=True))


@pytest.fixture
def options():
    return {
        "provenance": PROVENANCE,
        "params": PARAMS,
        "synthetic": True,
        "left_out": ["image folds for the baselines", "14 of 20 epochs"],
    }
