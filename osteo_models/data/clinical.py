"""The clinical table: one row per person, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from osteo_models.core.terms import FINDINGS, LEVELS, MODALITIES
from osteo_models.data.tables import Rule, read_table

T_SCORES = tuple(f"t_score_{level}" for level in LEVELS)
IMAGING_DATES = tuple(f"{name}_date" for name in MODALITIES)
DATES = ("dxa_date", *IMAGING_DATES)


def _is_number(text: str) -> bool:
    try:
        return text == "" or -10 <= float(text) <= 10
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    return text == "" or pd.notna(pd.to_datetime(text, format="%Y-%m-%d", errors="coerce"))


DATE: Final = Rule(_is_date, "YYYY-MM-DD, or empty")
FLAG: Final = Rule(lambda text: text in ("0", "1"), "0 or 1")
RULES: Final[dict[str, Rule]] = {
    "patient_id": Rule(lambda text: bool(text.strip()) and text.isprintable(), "printable characters", unique=True),
    "source": Rule(lambda text: text in ("dxa", "control_candidate"), "dxa or control_candidate"),
    "sex": Rule(lambda text: text in ("F", "M"), "F or M"),
    "age_years": Rule(lambda text: text.isdecimal() and int(text) <= 120, "whole years from 0 to 120"),
    "postmenopausal": FLAG,
    "glucocorticoids": FLAG,
    "findings": Rule(lambda text: set(filter(None, text.split(";"))) <= set(FINDINGS), "codes " + ", ".join(FINDINGS)),
    "dxa_date": DATE,
    **{name: Rule(_is_number, "a number from -10 to 10, or empty") for name in T_SCORES},
    **dict.fromkeys(IMAGING_DATES, DATE),
}
COLUMNS = tuple(RULES)


def read_clinical(path: Path) -> pd.DataFrame:
    """Read and check the clinical table.

    Returns:
        Columns `COLUMNS`: ages and flags as whole numbers, T-scores as numbers (NaN where empty), dates as dates (NaT
        where empty), findings as text.

    Raises:
        TableError: The file is missing or no CSV, a column is missing, or values are wrong (all are listed).
    """
    remedy = "make the synthetic cohort with `osteo data synth`, or put your own table there"
    table = read_table(path, RULES, remedy=remedy)[list(COLUMNS)]
    for name in ("age_years", "postmenopausal", "glucocorticoids"):
        table[name] = table[name].astype(int)
    for name in T_SCORES:
        table[name] = pd.to_numeric(table[name])
    for name in DATES:
        table[name] = pd.to_datetime(table[name], format="%Y-%m-%d")
    return table
