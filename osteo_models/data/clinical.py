"""The clinical table: one row per person, checked as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from osteo_models.errors import TableError
from osteo_models.terms import FINDINGS, LEVELS

T_SCORES = tuple(f"t_score_{level}" for level in LEVELS)
DATES = ("dxa_date", "mri_date", "ct_date")
COLUMNS = (
    *("patient_id", "source", "sex", "age_years", "postmenopausal", "glucocorticoids", "findings"),
    *("dxa_date", *T_SCORES, "mri_date", "ct_date"),
)
MOST_FAULTS_SHOWN = 20


def read_clinical(path: Path) -> pd.DataFrame:
    """Read and check the clinical table.

    Returns:
        Columns `COLUMNS`: ages and flags as whole numbers, T-scores as numbers (NaN where empty), dates as dates (NaT
        where empty), findings as text.

    Raises:
        TableError: The file is missing or no CSV, a column is missing, or values are wrong (all are listed).
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        remedy = "make the synthetic cohort with `osteo data synth`, or put your own table there"
        raise TableError("file not found", where=str(path), remedy=remedy) from None
    except (ValueError, OSError) as error:
        raise TableError(f"not a readable CSV table ({type(error).__name__})", where=str(path)) from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise TableError(f"missing columns {missing}", where=str(path), allowed=", ".join(COLUMNS))
    faults = _value_faults(table)
    if faults:
        more = f"; and {len(faults) - MOST_FAULTS_SHOWN} more" if len(faults) > MOST_FAULTS_SHOWN else ""
        found = f"{len(faults)} faults: " + "; ".join(faults[:MOST_FAULTS_SHOWN]) + more
        raise TableError(found, where=str(path), remedy="mend the table; row 2 is the first person")
    return _typed(table)


def _value_faults(table: pd.DataFrame) -> list[str]:
    checks: dict[str, tuple[Callable[[str], bool], str]] = {
        "patient_id": (lambda text: bool(text) and text.replace("-", "").isalnum(), "letters, digits and '-'"),
        "source": (lambda text: text in ("dxa", "control_candidate"), "dxa or control_candidate"),
        "sex": (lambda text: text in ("F", "M"), "F or M"),
        "age_years": (lambda text: text.isdigit() and int(text) <= 120, "whole years from 0 to 120"),
        "postmenopausal": (lambda text: text in ("0", "1"), "0 or 1"),
        "glucocorticoids": (lambda text: text in ("0", "1"), "0 or 1"),
        "findings": (lambda text: set(filter(None, text.split(";"))) <= set(FINDINGS), "codes " + ", ".join(FINDINGS)),
        **dict.fromkeys(T_SCORES, (_is_t_score, "a number from -10 to 10, or empty")),
        **dict.fromkeys(DATES, (_is_date, "YYYY-MM-DD, or empty")),
    }
    faults: list[str] = []
    for name, (valid, allowed) in checks.items():
        for row, text in enumerate(table[name], start=2):
            if not valid(text):
                # Values are not repeated: where columns have slipped, any could be a name or a date of birth.
                faults.append(f"row {row}, {name}: the value is not {allowed}")
    double = table["patient_id"].duplicated(keep="first")
    faults += [f"row {row + 2}, patient_id: stands in an earlier row too" for row in table.index[double]]
    return faults


def _is_t_score(text: str) -> bool:
    try:
        return text == "" or -10 <= float(text) <= 10
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    return text == "" or pd.notna(pd.to_datetime(text, format="%Y-%m-%d", errors="coerce"))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    table = table[list(COLUMNS)].copy()
    for name in ("age_years", "postmenopausal", "glucocorticoids"):
        table[name] = table[name].astype(int)
    for name in T_SCORES:
        table[name] = pd.to_numeric(table[name])
    for name in DATES:
        table[name] = pd.to_datetime(table[name], format="%Y-%m-%d")
    return table
