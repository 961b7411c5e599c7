"""Tables 1, 2, 8 and 9 of the paper, ours beside theirs; the ledger stands with them."""

from __future__ import annotations

from typing import Any, Final

from osteo_models.evaluation.paper import HOLDOUT_TABLE
from osteo_models.report.html_table import Cell, Table, count, key_of, make_table, number, source, word
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.sections.ledger import build_ledger, build_sizes, tell_ledger
from osteo_models.report.sections.stages import sort_jobs
from osteo_models.report.wording import (
    IMAGES,
    is_number,
    name_architecture,
    name_network,
    name_stages,
    write_count,
    write_metric,
    write_p,
    write_signed,
)

VALIDATION: Final = {"folds": "five folds", "holdout": "hold-out", "patient_test": "patient-based test"}
VARIABLES: Final = {"age_years": "age, years", "mean_grey": "mean grey value"}


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    tables = evidence.tables
    return {
        "skewness": _skewness(tables["table1"]),
        "experiments": _experiments(tables["table2"]),
        "holdout": name_stages(evidence.stages.find_paper_table(HOLDOUT_TABLE)),
        "scores": build_scores(tables["table8"]),
        "delong": build_delong(tables["table9"]),
        "unpaired": _unpaired(tables["delong_unpaired"]),
        "ledger": build_ledger(tables["ledger"]),
        "sizes": build_sizes(tables["ledger_sizes"]),
        "ledger_words": tell_ledger(tables["ledger"]),
    }


def _skewness(rows: Records) -> Table:
    found = [
        [
            word(str(row["group"]).replace("_", ", ").replace("mri", "MRI").replace("ct", "CT", 1)),
            word(VARIABLES.get(row["variable"], row["variable"])),
            word("hold-out" if row["part"] == "holdout" else row["part"]),
            number(row["skewness"], absent="undefined"),
            number(row["paper_skewness"]),
            count(row["n"]),
            count(row["n_patients"]),
            source(row["source"]),
        ]
        for row in rows
    ]
    columns = ("Group", "<Of", "<Images", "Skewness", "Paper", "Images", "Patients", "<From")
    return make_table("table-1", "Skewness of the distributions.", columns, found)


def _experiments(rows: Records) -> Table:
    found = [
        [
            word(name_stages([row["stage"]]).capitalize() if isinstance(row["stage"], str) else None),
            word(IMAGES.get(row["images"], row["images"])),
            word(VALIDATION.get(row["validation"], row["validation"])),
            count(row["n"]),
            count(row["paper_n"]),
            count(row["n_pairs"]),
            count(row["paper_pairs"]),
            count(row["n_patients"]),
            word(
                _join(row["architectures"], name=True),
                detail=_join(row["protocols"]) and f"{_join(row['protocols'])} protocol",
            ),
            word(row["note"]),
        ]
        for row in rows
    ]
    columns = (
        "Stage",
        "<Images",
        "<Validation",
        "Images",
        "Paper",
        "Pairs",
        "Paper, pairs",
        "Patients",
        "<Networks",
        "<Note",
    )
    return make_table(
        "table-2",
        "Images, pairs and patients of each experiment, ours and the paper's.",
        columns,
        found,
        files=["predictions/"],
    )


def _join(value: object, *, name: bool = False) -> str:
    parts = [part for part in str(value).split(";") if part] if isinstance(value, str) else []
    return ", ".join(name_architecture(part) if name else part for part in parts)


def build_scores(rows: Records) -> Table:
    """Table 8: scores of the rightly classified hold-out images, each taken for the class that it decided for."""
    found = [
        [
            word(name_network(row["architecture"], row["images"])),
            number(row["mean"], absent="undefined"),
            number(row["sd"], absent="undefined"),
            number(row.get("paper_mean")),
            number(row.get("paper_sd")),
            count(row["n_correct"]),
            count(row["n"]),
            count(row.get("n_patients")),
            source(row["source"]),
        ]
        for row in sort_jobs(rows)
    ]
    columns = (
        "Network",
        "Mean",
        "SD",
        "Paper, mean",
        "Paper, SD",
        "Right images",
        "Images",
        "Patients",
        "<Predictions",
    )
    return make_table("table-8", "Scores of the rightly classified hold-out images.", columns, found)


def build_delong(rows: Records) -> Table:
    """Table 9: the multimodal against the unimodal network on the hold-out, counted by image and by patient."""
    found = []
    for row in rows:
        by_image = row["level"] == "image"
        printed = by_image and is_number(row["paper_z"])
        found.append(
            [
                word(str(row["subset"]).upper()),
                word(row["level"]),
                _area(row["auc_multimodal"]),
                _area(row["auc_unimodal"]),
                _difference(row),
                Cell(write_signed(row["z"]), key=key_of(row["z"])),
                Cell(write_p(row["p_value"]), key=key_of(row["p_value"])),
                Cell(_print_z(row), detail=_print_range(row), key=row["paper_z"]) if printed else word(None),
                count(row["n"]),
                count(row["n_patients"]),
                source(row["source_first"], row["source_second"]),
            ]
        )
    columns = (
        *("Images", "<Counted by", "AUC multimodal", "AUC unimodal", "Difference", "z", "p", "Paper: z, p"),
        *("n", "Patients", "<Predictions"),
    )
    return make_table("table-9", "Multimodal against unimodal on the hold-out: DeLong's test.", columns, found)


def _unpaired(rows: Records) -> Table:
    found = [
        [
            word(f"{_job(row['first'])} ({row['stage_first']})"),
            word(f"{_job(row['second'])} ({row['stage_second']})"),
            word(row["level"]),
            _area(row["auc_first"]),
            _area(row["auc_second"]),
            _difference(row),
            Cell(write_p(row["p_value"]), key=key_of(row["p_value"])),
            Cell(f"{write_count(row['n_patients_first'])}, {write_count(row['n_patients_second'])}"),
            source(row["source_first"], row["source_second"]),
        ]
        for row in rows
        if row["protocol"] == "patient"
    ]
    columns = (
        "First",
        "<Second",
        "<Counted by",
        "AUC first",
        "AUC second",
        "Difference",
        "p",
        "Patients",
        "<Predictions",
    )
    caption = "MRI against CT: DeLong's test of other patients, unpaired."
    return make_table("delong-unpaired", caption, columns, found)


def _area(value: Any) -> Cell:
    return Cell(write_metric("roc_auc", value), key=key_of(value))


def _difference(row: dict[str, Any]) -> Cell:
    low, high = row["ci_low"], row["ci_high"]
    if not is_number(low) or not is_number(high):
        note = row["note"] if isinstance(row.get("note"), str) and row["note"] else "undefined"
        return Cell(write_signed(row["difference"]), note, key_of(row["difference"]))
    same = low == high == 0
    detail = "identical curves" if same else f"{write_signed(low)} to {write_signed(high)}"
    return Cell(write_signed(row["difference"]), detail, key_of(row["difference"]))


def _print_z(row: dict[str, Any]) -> str:
    return f"{row['paper_z']:.3f}, {row['paper_p_value']:.3f}"


def _print_range(row: dict[str, Any]) -> str:
    return f"{write_signed(row['paper_ci_low'])} to {write_signed(row['paper_ci_high'])}"


def _job(value: Any) -> str:
    architecture, _, images = str(value).rpartition("-")
    return name_network(architecture, images) if architecture else str(value)
