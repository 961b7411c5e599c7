"""Reading the project's own tables: identifiers stay text, whatever they look like."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pandas as pd

IDENTIFIERS = ("image_id", "patient_id", "mri_image_id", "ct_image_id", "sex", "modality", "path", "split")
FOLDS = ("fold_image", "fold_patient")


def read_frame(path: Path | IO[bytes]) -> pd.DataFrame:
    """Read images.csv, splits.csv or pairs.csv; `007` is no number and `NA` is no gap, an empty fold is."""
    return pd.read_csv(
        path,
        dtype={**dict.fromkeys(IDENTIFIERS, "str"), **dict.fromkeys(FOLDS, "Int64")},
        keep_default_na=False,
        na_values={fold: [""] for fold in FOLDS},
    )
