"""What is known of the images beside their scores: splits, ages, headers, pixels.

Audits start from these. A file that is missing leaves its part empty; tables that contradict each other are an error.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from osteo_models.core.errors import TableError
from osteo_models.core.terms import MODALITIES
from osteo_models.evaluation.scored_cases import BoolArray, FloatArray, IntArray, TextArray

SPLITS: Final = "splits/splits.csv"
PAIRS: Final = "splits/pairs.csv"
HEADERS: Final = "cohort/headers.csv"
PIXELS: Final = "cohort/images.npy"
HEADER_TEXTS: Final = ("image_id", "study", "series", "scanner")
SPLIT_COLUMNS: Final = (
    *("image_id", "patient_id", "modality", "target", "age_years", "sex"),
    *("holdout", "patient_test", "fold_image", "fold_patient"),
)
REMEDY: Final = "make the tables again with `dvc repro splits`"


@dataclass(frozen=True)
class Pairs:
    """Images of one class, one of each modality, as the multimodal network is trained and tested on them.

    Shapes:
        split: (M,): which set of pairs; image_ids: (K, M), a row for each of the `MODALITIES`.
    """

    split: TextArray
    image_ids: TextArray


@dataclass(frozen=True)
class Facts:
    """One row per image of the cohort.

    Args:
        sides: For each split the side an image stands on, -1 where it takes no part: 1 tested and 0 trained on for
            `holdout` and `patient_test`, the fold for `fold_image` and `fold_patient`.
        study, series, scanner: Empty text where the header does not say.
        numbers: Of the headers, by name; NaN where a header does not say.
        pixels: (N, 80, 60) of uint8, memory-mapped; None where the file is missing.

    Shapes:
        image_id ... scanner: (N,).
    """

    image_id: TextArray
    patient_id: TextArray
    modality: TextArray
    target: IntArray
    age_years: FloatArray
    sex: TextArray
    sides: dict[str, IntArray]
    study: TextArray
    series: TextArray
    scanner: TextArray
    numbers: dict[str, FloatArray]
    pixels: NDArray[np.uint8] | None
    pairs: Pairs

    @property
    def development(self) -> BoolArray:
        """All but the hold-out."""
        return self.sides["holdout"] != 1

    def find_rows(self, image_id: TextArray) -> IntArray:
        """The row of each of these images.

        Raises:
            TableError: An image is not in the splits.
        """
        order = np.argsort(self.image_id)
        place = np.minimum(np.searchsorted(self.image_id[order], image_id), order.size - 1)
        rows = order[place]
        strange = image_id[self.image_id[rows] != image_id]
        if strange.size:
            found = f"{strange.size} image(s) of the predictions are unknown, such as {strange[0]}"
            raise TableError(found, where=SPLITS, remedy="run the experiments on these splits")
        return rows.astype(np.int64)


def read_facts(artifacts: Path) -> Facts | None:
    """Read splits, pairs, headers and pixels; None where there are no splits.

    Raises:
        TableError: A column is missing, a value cannot be read, or the tables are not of the same images.
    """
    table = _read(artifacts / SPLITS, SPLIT_COLUMNS)
    if table is None:
        return None
    image_id = _text(table["image_id"])
    headers = _read(artifacts / HEADERS, HEADER_TEXTS)
    if headers is not None and headers["image_id"] != table["image_id"]:
        raise TableError("not the images of the splits", where=HEADERS, remedy=REMEDY)
    pixels: NDArray[np.uint8] | None = None
    if (artifacts / PIXELS).is_file():
        loaded: NDArray[np.uint8] = np.load(artifacts / PIXELS, mmap_mode="r")
        if len(loaded) != image_id.size:
            found = f"{len(loaded)} images, {image_id.size} in the splits"
            raise TableError(found, where=PIXELS, remedy=REMEDY)
        pixels = loaded
    columns = [f"{name}_image_id" for name in MODALITIES]
    pairs = _read(artifacts / PAIRS, ("split", *columns)) or {}
    nothing = [""] * image_id.size
    texts = {name: _text(nothing if headers is None else headers[name]) for name in HEADER_TEXTS[1:]}
    numbers = {name: cells for name, cells in (headers or {}).items() if name not in HEADER_TEXTS}
    return Facts(
        image_id=image_id,
        patient_id=_text(table["patient_id"]),
        modality=_text(table["modality"]),
        target=_whole(table, "target", 0),
        age_years=_floats(table["age_years"], "age_years", SPLITS),
        sex=_text(table["sex"]),
        sides=_sides(table),
        **texts,
        numbers={name: _floats(cells, name, HEADERS) for name, cells in numbers.items()},
        pixels=pixels,
        pairs=Pairs(_text(pairs.get("split", [])), _text([pairs.get(name, []) for name in columns])),
    )


def _sides(table: dict[str, list[str]]) -> dict[str, IntArray]:
    sides = {name: _whole(table, name, -1) for name in ("holdout", "patient_test", "fold_image", "fold_patient")}
    sides["patient_test"] = np.where(sides["holdout"] == 1, -1, sides["patient_test"])
    return sides


def _read(path: Path, columns: Sequence[str]) -> dict[str, list[str]] | None:
    """The table by column, None where the file is missing."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0] if rows else []
    missing = [name for name in columns if name not in names]
    if missing:
        raise TableError(f"missing column(s): {', '.join(missing)}", where=str(path), remedy=REMEDY)
    if any(len(row) != len(names) for row in rows):
        raise TableError("rows of different lengths", where=str(path), remedy=REMEDY)
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(names)}


def _text(cells: Sequence[str] | Sequence[Sequence[str]]) -> TextArray:
    return np.asarray(cells, dtype=np.str_)


def _floats(cells: Sequence[str], name: str, where: str) -> FloatArray:
    try:
        return np.asarray([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    except ValueError:
        raise TableError(f"{name} holds values that are not numbers", where=where, remedy=REMEDY) from None


def _whole(table: dict[str, list[str]], name: str, empty: int) -> IntArray:
    values = _floats(table[name], name, SPLITS)
    return np.where(np.isnan(values), empty, values).astype(np.int64)
