"""Made-up predictions in the layout of artifacts/predictions: patients with a level of their own, slices around it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from osteo_models.core.stage_table import StageTable
from tests.conftest import STAGES

GROUPS = {  # patients and images per modality and class, after the paper's cohort
    ("mri", 1): (60, 511),
    ("mri", 0): (55, 502),
    ("ct", 1): (47, 528),
    ("ct", 0): (46, 500),
}


def make_images(share: float = 1.0, seed: int = 5, prefix: str = "P") -> pd.DataFrame:
    """One row per image: image_id, patient_id, modality, target."""
    rng = np.random.default_rng(seed)
    rows = []
    for (modality, target), (patients, images) in GROUPS.items():
        patients, images = max(3, round(patients * share)), max(9, round(images * share))
        owners = np.sort(np.append(np.arange(patients), rng.integers(0, patients, images - patients)))
        for number, owner in enumerate(owners):
            patient = f"{prefix}{modality}{target}{owner:03d}"
            rows.append((f"{patient}-{modality}-{number:03d}", patient, modality, target))
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "modality", "target"])


def make_scores(images: pd.DataFrame, skill: float, seed: int) -> np.ndarray:
    """Scores whose errors come by patient: a patient's level, and slices around it."""
    rng = np.random.default_rng(seed)
    patients, place = np.unique(images["patient_id"], return_inverse=True)
    level = rng.normal(0, 1.6, patients.size)[place] + rng.normal(0, 0.8, len(images))
    logits = skill * (2 * images["target"].to_numpy() - 1) + level
    return 1 / (1 + np.exp(-logits))


def write_job(
    artifacts: Path,
    stage: str,
    architecture: str,
    images: str,
    protocol: str,
    table: pd.DataFrame,
    skill: float,
    *,
    stages: StageTable = STAGES,
) -> Path:
    """Write one file of predictions over five folds (one for the stages without folds)."""
    seed = sum(map(ord, f"{stage}{architecture}{images}{protocol}"))
    chosen = table if images in ("combined", "multimodal") else table[table["modality"] == images]
    chosen = chosen.reset_index(drop=True)
    folds = stages.find(stage).folds
    owner = np.unique(chosen["patient_id"], return_inverse=True)[1]
    frame = chosen.assign(
        stage=stage,
        architecture=architecture,
        images=images,
        protocol=protocol,
        fold=(owner if protocol == "patient" else np.arange(len(chosen))) % folds,
        score=make_scores(chosen, skill, seed),
    )
    frame.attrs["validation"] = stages.find(stage).validation
    path = artifacts / "predictions" / stage / f"{architecture}-{images}-{protocol}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return path


def write_study(artifacts: Path, architectures: tuple[str, ...], share: float = 1.0) -> int:
    """Write all six stages, both protocols; the number of files."""
    table, count = make_images(share), 0
    held_out, tested = make_images(0.1, 6, "H"), make_images(0.11, 7, "T")
    for number, images in enumerate(("mri", "ct", "combined"), 1):
        for architecture in architectures:
            for protocol, skill in (("image", 3.6), ("patient", 2.6)):
                write_job(artifacts, f"stage-{number}", architecture, images, protocol, table, skill)
            write_job(artifacts, "stage-5", architecture, images, "patient", held_out, 2.2)
            count += 3
    for protocol, skill in (("image", 3.8), ("patient", 2.8)):
        write_job(artifacts, "stage-4", "multimodal", "multimodal", protocol, table, skill)
    write_job(artifacts, "stage-5", "multimodal", "multimodal", "patient", held_out, 2.4)
    for architecture, images in (("unimodal", "mri"), ("unimodal", "ct"), ("multimodal", "multimodal")):
        write_job(artifacts, "stage-6", architecture, images, "patient", tested, 2.8)
    return count + 6


def write_cohort(artifacts: Path, share: float = 1.0) -> pd.DataFrame:
    """Write the splits, pairs, headers and pixels of a study: age gives the class away, and so does the echo time."""
    parts = {"none": make_images(share), "holdout": make_images(0.1, 6, "H"), "test": make_images(0.11, 7, "T")}
    table = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    rng = np.random.default_rng(8)
    patients, owner = np.unique(table["patient_id"], return_inverse=True)
    target = table["target"].to_numpy()
    level = rng.normal(0, 6, patients.size)[owner]
    table["age_years"] = np.where(table["part"] == "holdout", 44 + (level > 0), 32 + 33 * target + level).astype(int)
    table["sex"] = np.where(owner % 3 == 0, "M", "F")
    table["holdout"] = (table["part"] == "holdout").astype(int)
    table["patient_test"] = (table["part"] == "test").astype(int)
    held = table["holdout"] == 1
    table["fold_image"] = pd.Series(np.arange(len(table)) % 5, dtype="Int64").mask(held)
    table["fold_patient"] = pd.Series(owner % 5, dtype="Int64").mask(held)
    (artifacts / "splits").mkdir(parents=True)
    table.drop(columns="part").to_csv(artifacts / "splits" / "splits.csv", index=False)
    pairs = []
    for label in (0, 1):
        ids = [table.loc[(table["modality"] == name) & (target == label) & ~held, "image_id"] for name in ("mri", "ct")]
        pairs += [("patient", 0, label, *pair) for pair in zip(*ids, strict=False)]
        pairs += [("image", 0, label, *pair) for pair in zip(*ids, strict=False)]
    columns = ["split", "fold", "target", "mri_image_id", "ct_image_id"]
    pd.DataFrame(pairs, columns=columns).to_csv(artifacts / "splits" / "pairs.csv", index=False)
    headers = pd.DataFrame({"image_id": table["image_id"]})
    headers["study"], headers["series"] = (
        [f"study{number}" for number in owner],
        [f"series{number}" for number in owner],
    )
    headers["scanner"] = np.where(owner % 2 == 0, "Maker One 1.5 T", "Maker Two 1.5 T")
    headers["echo_time_ms"] = np.where(table["modality"] == "mri", (7.7 + 0.5 * target + 0.02 * level).round(3), np.nan)
    headers["kvp"] = np.where(table["modality"] == "ct", 120, np.nan)
    (artifacts / "cohort").mkdir()
    headers.to_csv(artifacts / "cohort" / "headers.csv", index=False)
    near = rng.normal(120, 40, (patients.size, 12, 9))[owner] + rng.normal(0, 12, (len(table), 12, 9))
    np.save(artifacts / "cohort" / "images.npy", np.clip(near, 0, 255).astype(np.uint8))
    return table


@pytest.fixture
def cohort() -> Callable[..., pd.DataFrame]:
    return write_cohort


@pytest.fixture
def images() -> pd.DataFrame:
    return make_images()


@pytest.fixture
def study() -> Callable[..., int]:
    return write_study


@pytest.fixture
def job() -> Callable[..., Path]:
    return write_job
