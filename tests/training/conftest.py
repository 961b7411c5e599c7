"""A small set of tables with images that can be told apart, for jobs and trials."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from osteo_models.core.params import Params, parse_params
from osteo_models.data.pairs import make_pairs
from osteo_models.data.splits import make_splits
from osteo_models.training.job_data import Tables

PATIENTS, SLICES = 12, 4


@pytest.fixture
def small_params(raw_params) -> Params:
    """The project's parameters with test sets for 12 patients a group."""
    for modality in ("mri", "ct"):
        ages = {"control_age_years": [20, 90], "osteoporosis_age_years": [20, 90]}
        raw_params["splits"]["holdout"][modality] = {"images_per_class": 8, **ages}
        sizes = {"images_per_class": 8, "control_patients": 2, "osteoporosis_patients": 2}
        raw_params["splits"]["patient_test"][modality] = sizes
    raw_params["profiles"]["quick"]["epochs"] = 2
    return parse_params(raw_params)


@pytest.fixture
def tables(small_params) -> Tables:
    """192 images: bright below in osteoporosis, so that two epochs learn something."""
    rows = [
        (
            f"{modality}{target}{patient:02d}-{number}",
            f"{modality}{target}{patient:02d}",
            modality,
            target,
            30 + patient,
            "F",
        )
        for modality in ("mri", "ct")
        for target in (0, 1)
        for patient in range(PATIENTS)
        for number in range(SLICES)
    ]
    images = pd.DataFrame(rows, columns=["image_id", "patient_id", "modality", "target", "age_years", "sex"])
    splits = make_splits(images, small_params.splits)
    pixels = np.random.default_rng(7).integers(0, 100, (len(images), 80, 60), dtype=np.uint8)
    pixels[images["target"] == 1, 40:] += 100
    return Tables(splits, make_pairs(splits, small_params.splits), pixels)
