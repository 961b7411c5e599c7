"""The table of pictures: what PNG and JPEG files, which carry no header, are of."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pandas as pd

from osteo_models.errors import TableError
from osteo_models.terms import MODALITIES, Modality

COLUMNS = ("file", "patient_id", "modality")


def read_pictures(path: Path) -> dict[str, tuple[str, Modality]]:
    """Patient and modality of each picture, by its name within the source.

    Raises:
        TableError: The file is missing, a column is missing, or values are wrong (all are listed, none is repeated).
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise TableError("file not found", where=str(path)) from None
    except (ValueError, OSError) as error:
        raise TableError(f"not a readable CSV table ({type(error).__name__})", where=str(path)) from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise TableError(f"missing columns {missing}", where=str(path), allowed=", ".join(COLUMNS))
    faults: list[str] = []
    for number, (_, row) in enumerate(table.iterrows(), start=2):
        faults += [f"row {number}, {name}: empty" for name in ("file", "patient_id") if not row[name]]
        if row["modality"] not in MODALITIES:
            faults.append(f"row {number}, modality: not {' or '.join(MODALITIES)}")
    faults += [
        f"row {index + 2}, file: stands in an earlier row too" for index in table.index[table["file"].duplicated()]
    ]
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise TableError(f"{len(faults)} faults: " + "; ".join(faults[:20]) + more, where=str(path))
    return {row["file"]: (row["patient_id"], cast("Modality", row["modality"])) for row in table.to_dict("records")}
