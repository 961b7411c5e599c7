"""Tables that people write, read as text and checked with pandera, so that all faults are reported at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pandas as pd

from osteo_models.core.errors import TableError

MAX_FAULTS_SHOWN: Final = 20
IDENTIFIERS = ("image_id", "patient_id", "mri_image_id", "ct_image_id", "sex", "modality", "path", "split")
FOLDS = ("fold_image", "fold_patient")


@dataclass(frozen=True)
class Rule:
    """What the values of a column must be.

    Attributes:
        valid: Whether a text is a value.
        allowed: Description of the values.
        unique: Whether a value may occur once only.
    """

    valid: Callable[[str], bool]
    allowed: str
    unique: bool = False


def read_table(path: Path, rules: Mapping[str, Rule], *, remedy: str = "") -> pd.DataFrame:
    """Read a CSV table as text and check it.

    Args:
        path: The table.
        rules: By column; other columns are not checked.
        remedy: What to do when there is no file.

    Raises:
        TableError: The file is missing or no CSV, or columns are missing or values wrong: all faults are listed, by row
            and column.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the names would be cut
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", index_col=False).fillna("")
    except FileNotFoundError:
        raise TableError("file not found", where=str(path), remedy=remedy) from None
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise TableError(f"not a readable CSV table ({type(error).__name__})", where=str(path)) from None
    missing = [name for name in rules if name not in table.columns]
    faults = [f"missing columns {missing}"] if missing else [] if len(table) else ["no rows below the names"]
    faults += _find_faults(table, {name: rule for name, rule in rules.items() if name not in missing})
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS_SHOWN} more" if len(faults) > MAX_FAULTS_SHOWN else ""
        count = f"{len(faults)} faults: " if len(faults) > 1 else ""
        raise TableError(
            count + "; ".join(faults[:MAX_FAULTS_SHOWN]) + more,
            where=str(path),
            allowed=f"columns {', '.join(rules)}, with commas between them" if missing else "",
            remedy="correct the table; row 2 is the first below the names",
        )
    return table


def _find_faults(table: pd.DataFrame, rules: Mapping[str, Rule]) -> list[str]:
    """Faults in the order of columns, then rows."""
    import pandera.pandas as pandera  # here, because it takes a second that only a table's reader should wait

    columns = {
        name: pandera.Column(
            checks=pandera.Check(rule.valid, element_wise=True, error=f"the value is not {rule.allowed}"),
            unique=rule.unique,
            report_duplicates="exclude_first",
        )
        for name, rule in rules.items()
    }
    try:
        pandera.DataFrameSchema(columns).validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        # Its values are not repeated: where columns have slipped, any could be a name or a date of birth.
        cases = error.failure_cases
        order = {name: number for number, name in enumerate(rules)}
        found = sorted(zip(cases["column"].map(order), cases["index"], cases["column"], cases["check"], strict=True))
        twice = "stands in an earlier row too"
        return [
            f"row {row + 2}, {name}: {twice if check == 'field_uniqueness' else check}" for _, row, name, check in found
        ]
    return []


def read_frame(path: Path | IO[bytes]) -> pd.DataFrame:
    """Read images.csv, splits.csv or pairs.csv; `007` is no number and `NA` is no gap, an empty fold is."""
    return pd.read_csv(
        path,
        dtype={**dict.fromkeys(IDENTIFIERS, "str"), **dict.fromkeys(FOLDS, "Int64")},
        keep_default_na=False,
        na_values={fold: [""] for fold in FOLDS},
    )
