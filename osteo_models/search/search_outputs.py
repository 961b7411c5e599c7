"""What a search leaves for the stages after it and for its reader: its candidates and its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from osteo_models.evaluation.metrics import Estimate
from osteo_models.search.leaderboard import Record, Session, find_best, find_front, summarize_timing

Row = dict[str, Any]
FOLDER: Final = "search"
GAPS: Final = ("learning_rate", "balanced_accuracy", "seconds_per_epoch")
CANDIDATES, SUMMARY = "candidates.csv", "summary.json"


def tabulate(records: Sequence[Record]) -> list[Row]:
    """One row per candidate, in the order in which they were drawn."""
    front = find_front(records)
    return [
        {
            "candidate": record.number,
            "status": record.status,
            "spec": json.dumps(dict(record.spec)),
            "learning_rate": record.learning_rate,
            "balanced_accuracy": record.balanced_accuracy,
            "parameters": record.parameters,
            "macs": record.macs,
            "seconds_per_epoch": record.seconds_per_epoch,
            "epochs": record.epochs,
            "pareto": int(record.number in front),
            "reason": record.reason,
        }
        for record in records
    ]


def summarize_search(
    records: Sequence[Record],
    sessions: Sequence[Session],
    refused: Mapping[str, int],
    *,
    again: Estimate | None = None,
) -> dict[str, Any]:
    """The search in numbers, flat.

    Args:
        records: All candidates.
        sessions: All starts of the search.
        refused: Networks that were refused untrained, by reason.
        again: The winner on fresh folds, where it is known.
    """
    best = find_best(records)
    counts = {status: sum(record.status == status for record in records) for status in ("finished", "pruned", "failed")}
    summary: dict[str, Any] = {
        "candidates": len(records),
        **counts,
        "rejected_shapes": refused["impossible"],
        "rejected_costs": refused["too costly"],
        "rejected_repeats": refused["tried before"],
        "best_candidate": best.number if best else None,
        "best_balanced_accuracy": best.balanced_accuracy if best else None,
    }
    if again is not None:
        summary["reestimated_balanced_accuracy"] = again.value
        summary["reestimated_low"], summary["reestimated_high"] = again.ci_low, again.ci_high
    return summary | {name: round(value, 4) for name, value in summarize_timing(records, sessions).items()}


def write_search(artifacts: Path, records: Sequence[Record], summary: Mapping[str, Any]) -> None:
    """Write candidates.csv and summary.json."""
    folder = artifacts / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(tabulate(records)).to_csv(folder / CANDIDATES, index=False)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def read_candidates(path: Path) -> list[Row]:
    """Read candidates.csv; a gap is None."""
    table = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in GAPS})
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
