"""Audit: the same image, or nearly the same, on both sides of a split.

Exact duplicates are equal bytes. Near duplicates are prepared images whose grey values correlate: neighbouring slices
of one patient do, which is how the image protocol leaks; two patients should not, unless one person goes by two names.
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
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    for start in range(0, len(flat), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        with np.errstate(invalid="ignore"):
            correlation = scaled[block] @ scaled[start:].T
        same = content[block, None] == content[None, start:]
        rows, columns = np.nonzero((correlation >= near) | same)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        found.append((rows + start, columns + start, correlation[rows, columns].astype(np.float64)))
    first, second = (np.concatenate([part[place] for part in found]).astype(np.int64) for place in (0, 1))
    values = np.concatenate([part[2] for part in found])
    return Alike(first, second, np.minimum(values, 1), content[first] == content[second])


def duplicate_rows(facts: Facts, alike: Alike) -> Iterator[Row]:
    """How many pairs stand on two sides of each split, and how many tested images have one they were trained on."""
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
    """The pairs worth looking at, the most alike first: equal images, and different patients' that are nearly so."""
    other = facts.patient_id[alike.first] != facts.patient_id[alike.second]
    chosen = np.flatnonzero(alike.exact | other)
    order = chosen[np.lexsort((alike.first[chosen], -alike.correlation[chosen], ~alike.exact[chosen]))]
    crossing = {split: _across(sides, alike) for split, sides in facts.sides.items()}
    for place in order[:SHOWN]:
        first, second = int(alike.first[place]), int(alike.second[place])
        correlation = float(alike.correlation[place])
        row: Row = {"image_id_a": str(facts.image_id[first]), "image_id_b": str(facts.image_id[second])}
        row |= {"patient_a": str(facts.patient_id[first]), "patient_b": str(facts.patient_id[second])}
        row |= {"modality": str(facts.modality[first]), "exact": int(alike.exact[place])}
        row |= {"correlation": None if np.isnan(correlation) else correlation}
        yield row | {"splits": ";".join(name for name, rows in crossing.items() if rows[place]), "source": PIXELS}


def _across(sides: IntArray, alike: Alike) -> BoolArray:
    a, b = sides[alike.first], sides[alike.second]
    return (a >= 0) & (b >= 0) & (a != b)


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
