"""The table of pictures: what PNG and JPEG files, which carry no header, are of."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from osteo_models.data.table import Rule, read_table
from osteo_models.terms import MODALITIES, Modality

RULES: Final[dict[str, Rule]] = {
    "file": Rule(bool, "the name of a file", unique=True),
    "patient_id": Rule(bool, "an identifier of the clinical table"),
    "modality": Rule(lambda text: text in MODALITIES, " or ".join(MODALITIES)),
}


def read_pictures(path: Path) -> dict[str, tuple[str, Modality]]:
    """Patient and modality of each picture, by its name within the source.

    Raises:
        TableError: The file is missing, a column is missing, or values are wrong (all are listed, none is repeated).
    """
    rows = read_table(path, RULES).to_dict("records")
    return {row["file"]: (row["patient_id"], cast("Modality", row["modality"])) for row in rows}
