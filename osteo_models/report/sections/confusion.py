"""Confusion matrices: how many of each class were decided for which, by image and by patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from osteo_models.core.terms import CLASS_NAMES, stage_number
from osteo_models.report.html_table import Table, count, make_table, source, word
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import PROPOSED, is_number, name_network

COUNTS = ("true_positives", "false_negatives", "true_negatives", "false_positives")


@dataclass(frozen=True)
class Square:
    """One number of a matrix; `share` of its true class."""

    count: int
    share: float | None
    right: bool


@dataclass(frozen=True)
class Matrix:
    """A matrix: rows are the true class, columns the decision, control first."""

    title: str
    rows: list[tuple[str, list[Square]]]
    n: str
    source: str


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    rows = sorted(evidence.tables["confusion"], key=_order)
    return {"matrices": build_matrices(rows), "table": build_table(rows), "classes": CLASS_NAMES}


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["stage"], order_networks((row["architecture"], row["images"])), row["protocol"] != "patient")


def build_matrices(rows: Records) -> list[Matrix]:
    """The proposed networks with whole patients left out, each image counted, at the usual threshold."""
    return [
        _matrix(row)
        for row in rows
        if (row["protocol"], row["level"], row["kind"]) == ("patient", "image", "default")
        and row["architecture"] in PROPOSED
    ]


def _matrix(row: dict[str, Any]) -> Matrix:
    hits, misses, rejections, alarms = (int(row[name]) for name in COUNTS)
    controls, positives = rejections + alarms, hits + misses
    lines = [
        (CLASS_NAMES[0], [_square(rejections, controls, right=True), _square(alarms, controls, right=False)]),
        (CLASS_NAMES[1], [_square(misses, positives, right=False), _square(hits, positives, right=True)]),
    ]
    counts = f"{row['n']:,.0f} images" + (f", {row['n_patients']:.0f} patients" if is_number(row["n_patients"]) else "")
    title = f"Stage {stage_number(row['stage'])}, {name_network(row['architecture'], row['images'])}"
    return Matrix(title, lines, counts, str(row["source"]))


def _square(number: int, of: int, *, right: bool) -> Square:
    return Square(number, number / of if of else None, right)


def build_table(rows: Records) -> Table:
    """Every matrix as a row."""
    found = []
    for row in rows:
        low, high = row["threshold_low"], row["threshold_high"]
        at = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (low, high) if is_number(end)))
        found.append(
            [
                word(name_network(row["architecture"], row["images"])),
                word(stage_number(row["stage"])),
                word(row["protocol"]),
                word(row["level"]),
                word(row["kind"], detail=at and f"at {at}"),
                *(count(row[name]) for name in COUNTS),
                count(row["n"]),
                count(row["n_patients"]),
                source(row["source"]),
            ]
        )
    columns = (
        *("Network", "Stage", "<Protocol", "<Counted by", "<Threshold", "Osteoporosis, found", "Osteoporosis, missed"),
        *("Control, cleared", "Control, false alarm", "n", "Patients", "<Predictions"),
    )
    return make_table("confusion-table", "Decisions of every job.", columns, found)
