"""A made-up clinical table and images table: no files, no phantom."""

from __future__ import annotations

import pandas as pd
import pytest

from osteo_models.data.clinical import COLUMNS

GROUPS = {("mri", 0): (58, 526), ("mri", 1): (62, 535), ("ct", 0): (50, 534), ("ct", 1): (50, 562)}


def person(patient_id: str, **changes: str) -> dict[str, str]:
    """A row of the clinical table: a woman of 60 with low T-scores and an MRI within six months."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {"patient_id": patient_id, "source": "dxa", "sex": "F", "age_years": "60", "postmenopausal": "1"}
    row |= {"glucocorticoids": "0", "dxa_date": "2020-01-10", "mri_date": "2020-03-01"}
    row |= {f"t_score_l{level}": "-2.1" for level in (1, 2, 3, 4)}
    return row | changes


@pytest.fixture
def write_table(tmp_path):
    """Write rows as a clinical table and give its path."""

    def write(rows: list[dict[str, str]]):
        path = tmp_path / "clinical.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        return path

    return write


@pytest.fixture
def images_table() -> pd.DataFrame:
    """Images of 220 patients in the paper's group sizes; ages rise within a group."""
    rows = []
    for (modality, target), (patients, images) in GROUPS.items():
        low, high = (20, 44) if target == 0 else (44, 86)
        for number in range(patients):
            n = images // patients + (number < images % patients)
            age = low + (high - low) * number // (patients - 1)
            patient_id = f"{modality}{target}{number:03d}"
            for slice_number in range(n):
                image_id = f"{patient_id}-{modality}-{slice_number:03d}"
                rows.append((image_id, patient_id, modality, target, age, "F"))
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "modality", "target", "age_years", "sex"])
