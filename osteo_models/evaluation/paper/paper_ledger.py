"""The paper's ledger: whether printed percentages can be counts of images, and which numbers of images would fit.

A percentage printed with two decimals is possible at n where some count k makes k / n, rounded or cut off, that
percentage. A row is possible where sensitivity and specificity are, and their two counts together make the accuracy. A
row that is not may be a mean over folds: "not count-consistent" is an observation, not a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from osteo_models.core.stage_table import StageTable
from osteo_models.evaluation.intervals import Z_95
from osteo_models.evaluation.paper import Printed, read_number, read_printed, read_stage_rows
from osteo_models.evaluation.rows import Row
from osteo_models.evaluation.scored_cases import IntArray

LEDGER_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "ledger": (
        *("table", "stage", "images", "architecture", "n", "n_positive", "n_negative", "accuracy", "sensitivity"),
        *("specificity", "balanced_accuracy", "balanced_accuracy_as_auc", "possible", "sensitivity_k", "specificity_k"),
        *("accuracy_k", "fits_n_positive", "fits_n_negative", "wald_agrees", "auc_is_balanced", "note"),
    ),
    "ledger_sizes": (
        *("table", "images", "stated_positive", "stated_negative", "rows", "possible_rows"),
        *("best_positive", "best_negative", "best_rows", "note"),
    ),
}
LAST_TABLE: Final = 7
REACH: Final = 0.2  # how far from a stated class size others are tried, as a share of it
WALD_TOLERANCE: Final = 0.2  # points, at the one decimal that is printed
AUC_TOLERANCE: Final = 0.002
PERCENTAGES: Final = ("accuracy", "sensitivity", "specificity", "balanced_accuracy")


@dataclass(frozen=True)
class Counts:
    """Right decisions among positives and negatives."""

    positives: int
    negatives: int


@dataclass(frozen=True)
class Sizes:
    """Positives and negatives of a table's rows; None when the paper does not state them."""

    n: int
    positive: int | None
    negative: int | None


def find_counts(percentage: float, n: int) -> IntArray:
    """The counts of n that are printed as this percentage, rounded or cut off after two decimals."""
    guess = percentage * n / 100
    counts = np.arange(max(0, math.floor(guess) - 1), min(n, math.ceil(guess) + 1) + 1)
    off = 100 * counts / n - percentage
    return counts[(off > -0.005 - 1e-9) & (off < 0.01 - 1e-9)].astype(np.int64)


def fit_row(row: Printed, positive: int, negative: int) -> Counts | None:
    """The counts behind a printed row at these class sizes; None where there are none."""
    figures = [read_number(row, name) for name in ("sensitivity", "specificity", "accuracy")]
    if positive < 1 or negative < 1 or any(figure is None for figure in figures):
        return None
    sensitivity, specificity, accuracy = (float(figure or 0.0) for figure in figures)
    right = {int(count) for count in find_counts(accuracy, positive + negative)}
    for positives in find_counts(sensitivity, positive):
        for negatives in find_counts(specificity, negative):
            if int(positives + negatives) in right:
                return Counts(int(positives), int(negatives))
    return None


def find_sizes(row: Printed, stated: Sizes) -> tuple[int, int] | None:
    """The class sizes nearest to the stated ones at which a row is possible, those of the same total first."""
    positive, negative = _centre(stated)
    reach = [
        range(max(1, math.floor(size * (1 - REACH))), math.ceil(size * (1 + REACH)) + 1)
        for size in (positive, negative)
    ]
    # only sizes at which either percentage is possible at all
    positives, negatives = (
        [size for size in sizes if find_counts(float(read_number(row, name) or 0.0), size).size]
        for sizes, name in zip(reach, ("sensitivity", "specificity"), strict=True)
    )
    pairs = [(a, b) for a in positives for b in negatives]
    pairs.sort(key=lambda pair: (abs(sum(pair) - stated.n), abs(pair[0] - positive), pair))
    return next((pair for pair in pairs if fit_row(row, *pair)), None)


def ledger_rows(stages: StageTable) -> Iterator[Row]:
    """One row per printed row of tables 3-7."""
    for printed in _keep_whole(read_stage_rows("stages", stages)):
        stated = _state_sizes(printed)
        at_stated = _fit_stated(printed, stated)
        fits = _centre(stated) if at_stated and stated.positive else find_sizes(printed, stated)
        row: Row = {name: printed[name] for name in ("table", "stage", "images", "architecture", "n")}
        row |= {"n_positive": stated.positive, "n_negative": stated.negative}
        row |= {name: printed[name] for name in (*PERCENTAGES, "balanced_accuracy_as_auc")}
        row |= {"possible": int(at_stated is not None)}
        if at_stated:
            row |= {"sensitivity_k": at_stated.positives, "specificity_k": at_stated.negatives}
            row |= {"accuracy_k": at_stated.positives + at_stated.negatives}
        if fits:
            row |= {"fits_n_positive": fits[0], "fits_n_negative": fits[1]}
        row |= {"wald_agrees": int(agrees_with_wald(printed)), "auc_is_balanced": int(has_balanced_auc(printed))}
        yield row | {"note": _describe(printed, stated, at_stated, fits)}


def agrees_with_wald(row: Printed) -> bool:
    """Whether the printed interval of the accuracy is Wald's at the stated n, clipped at 100 %."""
    share, n = float(row["accuracy"]) / 100, int(row["n"])
    half = Z_95 * math.sqrt(share * (1 - share) / n)  # of a share that need not be a count
    ends = (max(0.0, share - half), min(1.0, share + half))
    printed = (float(row["accuracy_lo"]), float(row["accuracy_hi"]))
    return all(
        abs(round(100 * end, 1) - shown) <= WALD_TOLERANCE + 1e-9 for end, shown in zip(ends, printed, strict=True)
    )


def has_balanced_auc(row: Printed) -> bool:
    """Whether the printed area is the balanced accuracy, as an area from decisions is."""
    return abs(float(row["balanced_accuracy_as_auc"]) - float(row["balanced_accuracy"]) / 100) <= AUC_TOLERANCE + 1e-12


def size_rows() -> Iterator[Row]:
    """One row per table and image set: the class sizes of its total at which most of its rows are possible."""
    groups: dict[tuple[str, str], list[Printed]] = {}
    for printed in _keep_whole(read_printed("stages")):
        groups.setdefault((printed["table"], printed["images"]), []).append(printed)
    for (table, images), rows in groups.items():
        stated = _state_sizes(rows[0])
        possible = sum(_fit_stated(row, stated) is not None for row in rows)
        best, count = _find_best(rows, stated)
        cells: Row = {"table": table, "images": images, "stated_positive": stated.positive}
        cells |= {"stated_negative": stated.negative, "rows": len(rows), "possible_rows": possible}
        if count:
            cells |= {"best_positive": best, "best_negative": stated.n - best}
        note = "" if count > possible or not count else "the stated sizes fit best"
        if stated.positive is None:
            note = "the text gives the total, not the class sizes"
        elif count > possible:
            note = f"{count} of {len(rows)} rows fit {best} + {stated.n - best}, {possible} the stated sizes"
        yield cells | {"best_rows": count, "note": note}


def _keep_whole(rows: Sequence[Printed]) -> list[Printed]:
    """Those of tables 3-7, which print every figure."""
    return [row for row in rows if int(row["table"]) <= LAST_TABLE]


def _state_sizes(row: Printed) -> Sizes:
    for stated in read_printed("sizes"):
        if (stated["table"], stated["images"]) == (row["table"], row["images"]):
            ends = [int(stated[name]) if stated[name] else None for name in ("n_positive", "n_negative")]
            return Sizes(int(row["n"]), ends[0], ends[1])
    return Sizes(int(row["n"]), None, None)


def _centre(stated: Sizes) -> tuple[int, int]:
    if stated.positive is None or stated.negative is None:
        return stated.n // 2, stated.n - stated.n // 2
    return stated.positive, stated.negative


def _fit_stated(row: Printed, stated: Sizes) -> Counts | None:
    """At the stated sizes; at any sizes of the stated total where the text does not give them."""
    if stated.positive is not None and stated.negative is not None:
        return fit_row(row, stated.positive, stated.negative)
    fits = find_sizes(row, stated)
    return fit_row(row, *fits) if fits and sum(fits) == stated.n else None


def _find_best(rows: Sequence[Printed], stated: Sizes) -> tuple[int, int]:
    """Positives, and how many rows fit them; of equals the nearest to the stated."""
    positive, _ = _centre(stated)
    tried = range(max(1, math.floor(positive * (1 - REACH))), min(stated.n, math.ceil(positive * (1 + REACH)) + 1))
    counts = {size: sum(fit_row(row, size, stated.n - size) is not None for row in rows) for size in tried}
    best = max(counts, key=lambda size: (counts[size], -abs(size - positive)))
    return best, counts[best]


def _describe(row: Printed, stated: Sizes, counts: Counts | None, fits: tuple[int, int] | None) -> str:
    sizes = f"{stated.positive} + {stated.negative}" if stated.positive else f"any classes of {stated.n}"
    if counts:
        return "" if stated.positive else f"class sizes not stated; fits {fits[0]} + {fits[1]}" if fits else ""
    text = f"not count-consistent at {sizes}"
    if not fits:
        return f"{text}, nor near it"
    fitted = fit_row(row, *fits)
    right = "" if fitted is None else f": {fitted.positives + fitted.negatives} of {sum(fits)}"
    return f"{text}; fits {fits[0]} + {fits[1]}{right}"
