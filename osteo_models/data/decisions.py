"""What people decided on doubtful inputs: a table of the data set, which every later import follows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from osteo_models.core.errors import InputError
from osteo_models.data.data_folder import INTAKE, Staging, read_rows, write_rows

DECISIONS: Final = "decisions.csv"
COLUMNS: Final = ("id", "patient_id", "decision", "who", "when", "why")
FINAL_DOUBTS: Final = frozenset(("unclear_level",))  # no decision helps: the preparation would not find L1-L5
Decision = Literal["accepted", "refused"]


def read_decisions(data: Path) -> dict[str, str]:
    """The decision on each series or input, by its pseudonym."""
    return {row["id"]: row["decision"] for row in read_rows(data / DECISIONS)}


def record_decisions(data: Path, ids: Sequence[str], decision: Decision, *, who: str, why: str) -> int:
    """Record a decision on series or inputs of intake.csv; the next import follows it.

    Returns:
        Number of inputs that it concerns.

    Raises:
        InputError: An identifier is not in intake.csv, or its doubt cannot be overruled; nothing was changed.
        OsteoError: Another command is changing the data set.
    """
    staging = Staging(data)
    with staging.lock():
        rows = [row for row in read_rows(staging.out / INTAKE) if {row["input"], row["series"]} & set(ids)]
        unknown = sorted(set(ids) - {row["input"] for row in rows} - {row["series"] for row in rows})
        if unknown:
            raise InputError(
                f"no series or input {unknown[0]!r}", where=str(data / INTAKE), remedy="see `osteo data review`"
            )
        if decision == "accepted" and (final := [row for row in rows if row["reason"] in FINAL_DOUBTS]):
            remedy = "refuse it, or crop the images to L1-L5 and import them again"
            raise InputError(
                f"{final[0]['reason']} cannot be accepted", where=final[0]["series"] or final[0]["input"], remedy=remedy
            )
        kept = [row for row in read_rows(staging.out / DECISIONS) if row["id"] not in ids]
        when = datetime.datetime.now(datetime.UTC).date().isoformat()
        patients = {row[name]: row["patient_id"] for row in rows for name in ("input", "series")}
        new: list[dict[str, str]] = []
        for name in ids:
            values = (name, patients[name], decision, who, when, why)
            new.append({str(column): value for column, value in zip(COLUMNS, values, strict=True)})
        with staging.build() as built:
            staging.copy()
            write_rows(built / DECISIONS, COLUMNS, [*kept, *new])
    return len(rows)
