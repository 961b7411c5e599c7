"""Audit: equal or nearly equal images on both sides of a split.

Exact duplicates are equal bytes. Near duplicates are prepared images whose grey values correlate: neighbouring slices
of one patient do, which is how the image protocol leaks; those of two patients should not, unless they are one person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from osteo_models.evaluation.image_facts import HEADERS, PIXELS, SPLITS, Facts
from osteo_models.evaluation.rows import Row
from osteo_models.evaluation.scored_cases import BoolArray, FloatArray, IntArray, TextArray

LEAKAGE_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "duplicates": ("split", "kind", "threshold", "pairs", "pairs_other_patient", "images", "n", "share", "source"),
    "duplicate_pairs": (
        *("image_id_a", "image_id_b", "patient_a", "patient_b", "modality", "correlation", "exact", "splits", "source"),
    ),
    "shared": ("split", "unit", "units", "units_total", "images", "n", "share", "note", "source"),
}
NEAR: Final = 0.97  # correlation from which two prepared images count as nearly the same
ROWS_AT_ONCE: Final = 512
SHOWN: Final = 200


@dataclass(frozen=True)
class Alike:
    """Pairs of images that are alike.

    Shapes:
        first, second, correlation, exact: (M,), first < second; correlation is NaN where an image is all one grey.
    """

    first: IntArray
    second: IntArray
    correlation: FloatArray
    exact: BoolArray


def find_alike(pixels: NDArray[np.uint8], near: float = NEAR) -> Alike:
    """All pairs of images that are equal, or correlate by at least `near`.

    Shapes:
        pixels: (N, H, W).
    """
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    content = np.unique(flat.view(np.dtype((np.void, flat.shape[1]))).ravel(), return_inverse=True)[1].ravel()
    scaled = flat.astype(np.float32)
    scaled -= scaled.mean(axis=1, keepdims=True)
    norm = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    scaled /= np.where(norm > 0, norm, np.nan)
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    for start in range(0, len(flat), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        with np.errstate(invalid="ignore"):
            correlation = scaled[block] @ scaled[start:].T
        same = content[block, None] == content[None, start:]
        rows, columns = np.nonzero((correlation >= near) | same)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        parts.append((rows + start, columns + start, correlation[rows, columns].astype(np.float64)))
    first, second = (np.concatenate([part[side] for part in parts]).astype(np.int64) for side in (0, 1))
    values = np.concatenate([part[2] for part in parts])
    return Alike(first, second, np.minimum(values, 1), content[first] == content[second])


def duplicate_rows(facts: Facts, alike: Alike) -> Iterator[Row]:
    """Pairs across each split, and tested images with a duplicate in the training set."""
    for split, sides in facts.sides.items():
        tested = sides == 1 if split in ("holdout", "patient_test") else sides >= 0
        across = _across(sides, alike)
        other = facts.patient_id[alike.first] != facts.patient_id[alike.second]
        for kind, chosen in (("exact", alike.exact), ("near", ~alike.exact)):
            rows = across & chosen
            touched = np.zeros(sides.size, dtype=np.bool_)
            touched[alike.first[rows]] = touched[alike.second[rows]] = True
            images, n = int((touched & tested).sum()), int(tested.sum())
            row: Row = {"split": split, "kind": kind, "threshold": 1.0 if kind == "exact" else NEAR}
            row |= {"pairs": int(rows.sum()), "pairs_other_patient": int((rows & other).sum())}
            yield row | {"images": images, "n": n, "share": images / n if n else None, "source": PIXELS}


def alike_rows(facts: Facts, alike: Alike) -> Iterator[Row]:
    """Equal images, and nearly equal ones of different patients, the most similar first."""
    other = facts.patient_id[alike.first] != facts.patient_id[alike.second]
    chosen = np.flatnonzero(alike.exact | other)
    order = chosen[np.lexsort((alike.first[chosen], -alike.correlation[chosen], ~alike.exact[chosen]))]
    crossing = {split: _across(sides, alike) for split, sides in facts.sides.items()}
    for pair in order[:SHOWN]:
        first, second = int(alike.first[pair]), int(alike.second[pair])
        correlation = float(alike.correlation[pair])
        row: Row = {"image_id_a": str(facts.image_id[first]), "image_id_b": str(facts.image_id[second])}
        row |= {"patient_a": str(facts.patient_id[first]), "patient_b": str(facts.patient_id[second])}
        row |= {"modality": str(facts.modality[first]), "exact": int(alike.exact[pair])}
        row |= {"correlation": None if np.isnan(correlation) else correlation}
        yield row | {"splits": ";".join(name for name, rows in crossing.items() if rows[pair]), "source": PIXELS}


def _across(sides: IntArray, alike: Alike) -> BoolArray:
    a, b = sides[alike.first], sides[alike.second]
    return (a >= 0) & (b >= 0) & (a != b)


def shared_rows(facts: Facts) -> Iterator[Row]:
    """For each split and unit: units on two sides, and tested images whose unit is trained on."""
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
    compared = takes_part & (names != "")
    if not compared.any():
        return {"n": int(tested.sum()), "note": "not in the headers"}
    units, owner = np.unique(names[compared], return_inverse=True)
    pairs = np.unique(np.stack([owner, sides[compared]]), axis=1)
    spread = np.bincount(pairs[0], minlength=units.size) > 1
    images = int((spread[owner] & tested[compared]).sum())
    n = int(tested.sum())
    note = (
        "" if compared.sum() == takes_part.sum() else f"unknown for {int(takes_part.sum() - compared.sum())} image(s)"
    )
    row: Row = {"units": int(spread.sum()), "units_total": units.size, "images": images, "n": n}
    return row | {"share": images / n if n else None, "note": note}
