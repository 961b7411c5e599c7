"""The figures that the paper printed.

Source: Kucukciloglu et al., Diagn Interv Radiol 2023, doi 10.4274/dir.2023.232116.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from osteo_models.core.stage_table import StageTable

FOLDER: Final = Path(__file__).parent
Printed = Mapping[str, str]
HOLDOUT_TABLE: Final = 7  # of the networks on the hold-out; tables 8 and 9 are of the same stage
PATIENT_TEST_TABLE: Final = 10


def read_printed(name: str) -> list[Printed]:
    """The rows of a table, cells as text: stages (3-7, 10), skewness (1), experiments (2), scores (8), delong (9),
    extremes (10)."""
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_stage_rows(name: str, stages: StageTable) -> list[Printed]:
    """The rows of a table by experiment, with the `stage` that repeats the experiment; empty where there is none."""
    stage_by_table = {str(row.paper_table): row.name for row in stages if row.paper_table is not None}
    return [{**row, "stage": stage_by_table.get(row["table"], "")} for row in read_printed(name)]


def read_number(row: Printed | None, column: str, scale: float = 1.0) -> float | int | None:
    """A printed figure divided by `scale`; None where nothing is printed.

    One area in table 3 is printed in per cent among shares: `scale` is not guessed, and the cell stays as it is.
    """
    cell = "" if row is None else row.get(column, "")
    if not cell:
        return None
    return int(cell) if scale == 1 and cell.isdigit() else round(float(cell) / scale, 6)
