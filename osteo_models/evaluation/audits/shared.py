"""Audit: one patient, study or series on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from osteo_models.evaluation.cases import IntArray, TextArray
from osteo_models.evaluation.facts import HEADERS, SPLITS, Facts
from osteo_models.evaluation.rows import Row


def shared_rows(facts: Facts) -> Iterator[Row]:
    """For each split and unit: how many units stand on two sides, and how many tested images have such a companion."""
    units = {"patient": facts.patient_id, "study": facts.study, "series": facts.series}
    for split, sides in facts.sides.items():
        for unit, names in units.items():
            yield (
                {"split": split, "unit": unit}
                | _count_shared(split, sides, names)
                | {"source": SPLITS if unit == "patient" else HEADERS}
            )


def _count_shared(split: str, sides: IntArray, names: TextArray) -> Row:
    takes_part = sides >= 0
    tested = takes_part & (sides == 1) if split in ("holdout", "patient_test") else takes_part
    known = takes_part & (names != "")
    if not known.any():
        return {"n": int(tested.sum()), "note": "the headers do not say"}
    units, owner = np.unique(names[known], return_inverse=True)
    pairs = np.unique(np.stack([owner, sides[known]]), axis=1)
    spread = np.bincount(pairs[0], minlength=units.size) > 1
    images = int((spread[owner] & tested[known]).sum())
    n = int(tested.sum())
    note = "" if known.sum() == takes_part.sum() else f"unknown for {int(takes_part.sum() - known.sum())} image(s)"
    row: Row = {"units": int(spread.sum()), "units_total": units.size, "images": images, "n": n}
    return row | {"share": images / n if n else None, "note": note}
