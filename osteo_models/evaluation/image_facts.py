"""Facts about the images other than their scores: splits, ages, headers, pixels.

Audits start from these. A missing file leaves its part empty; tables that contradict each other are an error.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

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
Table = dict[str, list[str]]  # cells by column
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
        sides: For each split the side of an image, -1 where it takes no part: 1 tested and 0 trained on for `holdout`
            and `patient_test`, the fold for `fold_image` and `fold_patient`.
        study, series, scanner: Empty text where the header has none.
        numbers: Numbers of the headers by name; NaN where the header has none.
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
        index = np.minimum(np.searchsorted(self.image_id[order], image_id), order.size - 1)
        rows = order[index]
        unknown = image_id[self.image_id[rows] != image_id]
        if unknown.size:
            found = f"{unknown.size} image(s) of the predictions are unknown, such as {unknown[0]}"
            raise TableError(found, where=SPLITS, remedy="run the experiments on these splits")
        return rows.astype(np.int64)


def read_facts(artifacts: Path) -> Facts | None:
    """Read splits, pairs, headers and pixels; None when there are no splits.

    Raises:
        TableError: A column is missing, a value cannot be read, or the tables are not of the same images.
    """
    table = _read(artifacts / SPLITS, SPLIT_COLUMNS)
    if table is None:
        return None
    headers = _read(artifacts / HEADERS, HEADER_TEXTS)
    if headers is None:
        headers = {name: [""] * len(table["image_id"]) for name in HEADER_TEXTS}
    elif headers["image_id"] != table["image_id"]:
        raise TableError("not the images of the splits", where=HEADERS, remedy=REMEDY)
    pixels: NDArray[np.uint8] | None = None
    if (artifacts / PIXELS).is_file():
        pixels = cast("NDArray[np.uint8]", np.load(artifacts / PIXELS, mmap_mode="r"))
        if len(pixels) != len(table["image_id"]):
            fault = f"{len(pixels)} images, {len(table['image_id'])} in the splits"
            raise TableError(fault, where=PIXELS, remedy=REMEDY)
    pair_columns = [f"{name}_image_id" for name in MODALITIES]
    pairs = _read(artifacts / PAIRS, ("split", *pair_columns)) or {name: [] for name in ("split", *pair_columns)}
    sides = {name: _whole(table, name, -1) for name in SPLIT_COLUMNS[6:]}
    sides["patient_test"] = np.where(sides["holdout"] == 1, -1, sides["patient_test"])
    numbers = [name for name in headers if name not in HEADER_TEXTS]
    return Facts(
        **{name: _text(table, name) for name in ("image_id", "patient_id", "modality", "sex")},
        target=_whole(table, "target", 0),
        age_years=_floats(table, "age_years", SPLITS),
        sides=sides,
        **{name: _text(headers, name) for name in HEADER_TEXTS[1:]},
        numbers={name: _floats(headers, name, HEADERS) for name in numbers},
        pixels=pixels,
        pairs=Pairs(_text(pairs, "split"), np.stack([_text(pairs, name) for name in pair_columns])),
    )


def _read(path: Path, columns: Sequence[str]) -> Table | None:
    """The table by column, None when the file is missing."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows: list[dict[str | None, Any]] = list(reader)
    names = [str(name) for name in reader.fieldnames or ()]
    missing = [name for name in columns if name not in names]
    if missing:
        raise TableError(f"missing column(s): {', '.join(missing)}", where=str(path), remedy=REMEDY)
    if any(None in row or None in row.values() for row in rows):  # what DictReader makes of longer and shorter rows
        raise TableError("rows of different lengths", where=str(path), remedy=REMEDY)
    return {name: [row[name] for row in rows] for name in names}


def _text(table: Table, name: str) -> TextArray:
    return np.asarray(table[name], dtype=np.str_)


def _floats(table: Table, name: str, where: str) -> FloatArray:
    """Numbers; an empty cell is NaN."""
    try:
        return np.asarray([float(cell) if cell else np.nan for cell in table[name]], dtype=np.float64)
    except ValueError:
        raise TableError(f"{name} holds values that are not numbers", where=where, remedy=REMEDY) from None


def _whole(table: Table, name: str, empty: int) -> IntArray:
    values = _floats(table, name, SPLITS)
    return np.where(np.isnan(values), empty, values).astype(np.int64)
