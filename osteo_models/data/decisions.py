"""What people decided on doubtful inputs: a table of the data set, which every later import follows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from osteo_models.data.data_folder import read_rows

DECISIONS: Final = "decisions.csv"
COLUMNS: Final = ("id", "patient_id", "decision", "who", "when", "why")


def read_decisions(data: Path) -> dict[str, str]:
    """The decision, `accepted` or `refused`, on each series or input by its pseudonym."""
    return {row["id"]: row["decision"] for row in read_rows(data / DECISIONS)}
