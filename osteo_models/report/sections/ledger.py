"""The paper ledger: whether each printed row of tables 3-7 is possible as counts at the stated numbers."""

from __future__ import annotations

from typing import Any

from osteo_models.report.html_table import Cell, Row, Table, count, key_of, make_table, word
from osteo_models.report.report_data import Records
from osteo_models.report.wording import IMAGES, is_number, name_network, write_count, write_number


def build_ledger(rows: Records) -> Table:
    """Each printed row of tables 3-7, and whether its percentages are counts out of the stated numbers."""
    found = [
        Row(
            [
                word(name_network(row["architecture"], row["images"])),
                count(row["table"]),
                Cell(_sizes(row, "n_positive", "n_negative"), key=key_of(row["n"])),
                Cell(_printed(row, "sensitivity"), key=key_of(row["sensitivity"])),
                Cell(_printed(row, "specificity"), key=key_of(row["specificity"])),
                Cell(_printed(row, "accuracy"), key=key_of(row["accuracy"])),
                word(
                    "possible" if row["possible"] == 1 else "not possible", kind="" if row["possible"] == 1 else "bad"
                ),
                Cell(_counts(row), key=key_of(row["sensitivity_k"])),
                Cell(_sizes(row, "fits_n_positive", "fits_n_negative"), key=key_of(row["fits_n_positive"])),
                word("yes" if row["wald_agrees"] == 1 else "no"),
                word("yes" if row["auc_is_balanced"] == 1 else "no"),
                Cell(row["note"] if isinstance(row["note"], str) else "–", kind="words"),
            ]
        )
        for row in rows
    ]
    columns = (
        *("Printed row", "Table", "Stated: osteoporosis + control", "Sensitivity, %", "Specificity, %", "Accuracy, %"),
        *(
            "<At the stated n",
            "Right: osteoporosis, control",
            "Would fit",
            "<Wald's interval",
            "<AUC = balanced accuracy",
        ),
        "<In words",
    )
    caption = "The paper ledger: are the printed percentages whole counts out of the stated numbers?"
    return make_table("ledger", caption, columns, found, files=["evaluation/ledger.csv"])


def build_sizes(rows: Records) -> Table:
    found = [
        [
            word(f"Table {int(row['table'])}, {IMAGES.get(row['images'], row['images'])}"),
            Cell(
                _sizes(row, "stated_positive", "stated_negative"),
                key=key_of(row["stated_positive"]),
            ),
            Cell(
                f"{write_count(row['possible_rows'])} of {write_count(row['rows'])}", key=key_of(row["possible_rows"])
            ),
            Cell(
                _sizes(row, "best_positive", "best_negative"),
                key=key_of(row["best_positive"]),
            ),
            Cell(f"{write_count(row['best_rows'])} of {write_count(row['rows'])}", key=key_of(row["best_rows"])),
            Cell(row["note"] if isinstance(row["note"], str) else "–", kind="words"),
        ]
        for row in rows
    ]
    columns = (
        "Images",
        "Stated: osteoporosis + control",
        "Rows possible",
        "Best fit",
        "Rows that it fits",
        "<In words",
    )
    caption = "Class sizes that fit the printed rows best."
    return make_table("ledger-sizes", caption, columns, found, files=["evaluation/ledger_sizes.csv"])


def tell_ledger(rows: Records) -> str:
    """The ledger in a sentence."""
    if not rows:
        return ""
    possible = sum(row["possible"] == 1 for row in rows)
    areas = sum(row["auc_is_balanced"] == 1 for row in rows)
    return (
        f"{possible} of {len(rows)} printed rows are possible as counts at the stated numbers of images; in {areas} "
        "the printed ROC AUC equals the balanced accuracy, so it was taken from decisions, not from scores."
    )


def _printed(row: dict[str, Any], name: str) -> str:
    return write_number(row[name], 2) if is_number(row[name]) else "–"


def _counts(row: dict[str, Any]) -> str:
    found = [
        str(row[name]) if not is_number(row[name]) else write_count(row[name])
        for name in ("sensitivity_k", "specificity_k")
    ]
    return ", ".join("–" if value == "nan" else value for value in found)


def _sizes(row: dict[str, Any], positive: str, negative: str) -> str:
    """Numbers of osteoporosis and control images."""
    sizes = [row[positive], row[negative]]
    return " + ".join(write_count(size) for size in sizes) if all(is_number(size) for size in sizes) else "–"
