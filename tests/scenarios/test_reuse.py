"""A second run trains nothing where only words of the code, and data that no job reads, have changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.scenarios.laboratory import make_laboratory

pytestmark = pytest.mark.timeout(900)


def test_after_a_comment_another_age_and_another_ct_image_mri_jobs_are_reused(tmp_path: Path) -> None:
    laboratory = make_laboratory(tmp_path / "project", epochs=1)
    assert "3 folds trained, 0 reused" in laboratory.run()
    finished = laboratory.results()
    code = tmp_path / "code"
    for package in ("osteo_models", "pipelines"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("reaper", "tune", "fit", "trial"):
        with (code / "osteo_models" / "training" / f"{name}.py").open("a", encoding="utf-8") as file:
            file.write("\n# A comment.\n")
    splits = laboratory.root / "artifacts" / "splits" / "splits.csv"
    table = pd.read_csv(splits, dtype=str)
    table.assign(age_years="55").to_csv(splits, index=False)
    images = laboratory.root / "artifacts" / "cohort" / "images.npy"
    pixels = np.load(images)
    pixels[np.flatnonzero(table["modality"] == "ct")] ^= 1
    np.save(images, pixels)
    again = replace(laboratory, environment=laboratory.environment | {"PYTHONPATH": str(code)})
    assert "0 folds trained, 3 reused" in again.run()
    assert again.results() == finished
