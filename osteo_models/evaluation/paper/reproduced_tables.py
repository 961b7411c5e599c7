"""Tables 1 to 10 of the paper: our figures and the printed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import CLASS_NAMES, MODALITIES, PROTOCOLS, modalities_of
from osteo_models.evaluation.image_facts import PIXELS, SPLITS, Facts
from osteo_models.evaluation.paper import (
    HOLDOUT_TABLE,
    PATIENT_TEST_TABLE,
    Printed,
    read_number,
    read_printed,
    read_stage_rows,
)
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import INTERVAL, JOB_COLUMNS, PROPORTIONS, WALD, WILSON, Row
from osteo_models.evaluation.scored_cases import FloatArray

OWN_COLUMNS: Final = ("brier", "calibration_slope", "calibration_intercept", "balanced_accuracy_as_auc")
ENDS: Final = (*INTERVAL, *WALD, *WILSON)
PERCENT: Final = 100.0


def _stage_table() -> tuple[str, ...]:
    """Tables 3 to 7: ours and the paper's figures in one row."""
    proportions = tuple(
        column
        for name in PROPORTIONS
        for column in (
            name,
            *(f"{name}_{end}" for end in ENDS),
            *(f"paper_{name}", f"paper_{name}_low", f"paper_{name}_high"),
        )
    )
    return (
        *(*JOB_COLUMNS, "kind", *proportions),
        *("balanced_accuracy", "balanced_accuracy_ci_low", "balanced_accuracy_ci_high", "paper_balanced_accuracy"),
        *("roc_auc", "roc_auc_ci_low", "roc_auc_ci_high", "roc_auc_delong_low", "roc_auc_delong_high"),
        *(
            "balanced_accuracy_as_auc",
            "paper_balanced_accuracy_as_auc",
            "brier",
            "calibration_slope",
            "calibration_intercept",
        ),
        *("n", "n_patients", "paper_n", "note", "source"),
    )


PAPER_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "table1": ("group", "variable", "part", "skewness", "n", "n_patients", "paper_skewness", "note", "source"),
    "table2": (
        *("stage", "images", "validation", "n", "n_patients", "n_pairs", "architectures", "protocols"),
        *("paper_n", "paper_pairs", "note", "source"),
    ),
    **{f"table{number}": _stage_table() for number in range(3, 8)},
    "table8": (
        *(*JOB_COLUMNS, "mean", "sd", "n_correct", "n", "n_patients"),
        *("paper_mean", "paper_sd", "source"),
    ),
    "table9": (
        *("subset", "level", "auc_multimodal", "auc_unimodal", "difference", *INTERVAL, "z", "p_value"),
        *(
            "n",
            "n_patients",
            "paper_z",
            "paper_p_value",
            "paper_ci_low",
            "paper_ci_high",
            "note",
            "source_first",
            "source_second",
        ),
    ),
    "table10": (
        *(*JOB_COLUMNS, "group", "which", "patient_id", "accuracy", *WALD, *WILSON, "n"),
        *("paper_accuracy", "paper_low", "paper_high", "source"),
    ),
    "table10_totals": (
        *(*JOB_COLUMNS, "metric", "value", *INTERVAL, *WALD, *WILSON, "n", "n_patients"),
        *("paper_value", "paper_low", "paper_high", "source"),
    ),
}


def skewness_rows(facts: Facts) -> Iterator[Row]:
    """Table 1, for age and for the image's mean grey value: the paper does not name the variable."""
    printed = {row["group"]: row for row in read_printed("skewness")}
    grey = None if facts.pixels is None else facts.pixels.reshape(len(facts.pixels), -1).mean(axis=1)
    variables = {"age_years": (facts.age_years, SPLITS)} | ({} if grey is None else {"mean_grey": (grey, PIXELS)})
    for modality in MODALITIES:
        for target, name in enumerate(CLASS_NAMES):
            of_group = (facts.modality == modality) & (facts.target == target)
            for part in ("training", "holdout", "both"):
                held = facts.sides["holdout"] == 1
                rows = of_group & {"training": ~held, "holdout": held, "both": held | ~held}[part]
                for variable, (values, source) in variables.items():
                    row: Row = {"group": f"{modality}_{name}", "variable": variable, "part": part}
                    row |= {"n": int(rows.sum()), "n_patients": int(np.unique(facts.patient_id[rows]).size)}
                    row |= _skew(values[rows]) | {"source": source}
                    paper = read_number(printed.get(f"{modality}_{name}"), "skewness")
                    yield row | {"paper_skewness": paper}


def _skew(values: FloatArray) -> Row:
    values = values[~np.isnan(values)]
    if values.size < 3 or float(np.ptp(values)) == 0:
        return {"note": f"undefined: {values.size} image(s), or all alike"}
    return {"skewness": float(cast(Any, stats).skew(values))}


def experiment_rows(jobs: Sequence[Predictions], facts: Facts, stages: StageTable) -> Iterator[Row]:
    """Table 2: how many images, patients and pairs each experiment has."""
    for printed in read_stage_rows("experiments", stages):
        stage, images, validation = printed["stage"], printed["images"], printed["validation"]
        of_set = np.isin(facts.modality, modalities_of(images))
        tested = facts.development if validation == "folds" else facts.sides[validation] == 1
        run = [job for job in jobs if (job.stage, job.images) == (stage, images)]
        row: Row = {"stage": stage, "images": images, "validation": validation, "source": SPLITS}
        row |= {"architectures": ";".join(sorted({job.architecture for job in run}))}
        row |= {"protocols": ";".join(protocol for protocol in PROTOCOLS if any(j.protocol == protocol for j in run))}
        row |= {"paper_n": read_number(printed, "n"), "paper_pairs": read_number(printed, "pairs")}
        row |= {"note": "" if run else "not run"}
        rows = of_set & tested
        if images == "multimodal" and validation == "folds":  # all images of each pair are tested
            paired = facts.pairs.split == "image"
            rows = np.isin(facts.image_id, facts.pairs.image_ids[:, paired])
            row |= {"n_pairs": int(paired.sum())}
        yield row | {"n": int(rows.sum()), "n_patients": int(np.unique(facts.patient_id[rows]).size)}


def stage_rows(table: int, summary: Sequence[Row], stages: StageTable) -> Iterator[Row]:
    """Tables 3 to 7: one row per network and protocol that was run, and per network that the paper has.

    Args:
        table: 3 to 7.
        summary: The rows of summary.csv.
        stages: The table of stages.
    """
    of_table = [row for row in read_stage_rows("stages", stages) if row["table"] == str(table)]
    printed = {(row["architecture"], row["images"]): row for row in of_table}
    ours: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in summary:
        if row["stage"] in stages.find_paper_table(table) and (row["subset"], row["level"]) == ("all", "image"):
            key = (str(row["architecture"]), str(row["images"]), str(row["protocol"]))
            ours.setdefault(key, {})[str(row["metric"])] = row
    for (architecture, images), row in printed.items():
        if not any(key[:2] == (architecture, images) for key in ours):
            job: Row = {"stage": row["stage"], "architecture": architecture, "images": images, "kind": "paper"}
            yield job | _paper_cells(row) | {"note": "not run"}
    for key, metrics in ours.items():
        paper = printed.get((key[0], key[1]))
        cells = {name: metrics["accuracy"][name] for name in (*JOB_COLUMNS, "n", "n_patients", "source")}
        cells |= {"kind": "both" if paper else "ours", "note": "" if paper else "not in the paper"}
        yield cells | _own_cells(metrics) | _paper_cells(paper)


def _own_cells(metrics: dict[str, Row]) -> Row:
    cells: Row = {name: metrics[name]["value"] for name in OWN_COLUMNS}
    for name in (*PROPORTIONS, "balanced_accuracy"):
        cells[name] = metrics[name]["value"]
        cells |= {f"{name}_{end}": metrics[name].get(end) for end in (ENDS if name in PROPORTIONS else ENDS[:2])}
    area = metrics["roc_auc"]
    cells |= {f"roc_auc_{end}": area.get(end) for end in ("ci_low", "ci_high", "delong_low", "delong_high")}
    return cells | {"roc_auc": area["value"]}


def _paper_cells(printed: Printed | None) -> Row:
    if printed is None:
        return {}
    cells: Row = {
        "paper_n": read_number(printed, "n"),
        "paper_balanced_accuracy_as_auc": read_number(printed, "balanced_accuracy_as_auc"),
    }
    cells |= {"paper_balanced_accuracy": read_number(printed, "balanced_accuracy", PERCENT)}
    for name in PROPORTIONS:
        cells |= _printed_proportion(printed, name, f"paper_{name}")
    return cells


def _printed_proportion(printed: Printed | None, name: str, column: str) -> Row:
    cells: Row = {column: read_number(printed, name, PERCENT)}
    head = column if column != "paper_value" else "paper"
    cells[f"{head}_low"] = read_number(printed, f"{name}_lo", PERCENT)
    return cells | {f"{head}_high": read_number(printed, f"{name}_hi", PERCENT)}


def add_printed_scores(rows: Sequence[Row]) -> Iterator[Row]:
    """Table 8 with the printed means and SDs."""
    printed = {(row["architecture"], row["images"]): row for row in read_printed("scores")}
    for row in rows:
        paper = printed.get((str(row["architecture"]), str(row["images"])))
        yield row | {"paper_mean": read_number(paper, "mean"), "paper_sd": read_number(paper, "sd")}


def delong_table_rows(delong: Sequence[Row], stages: StageTable) -> Iterator[Row]:
    """Table 9 from the rows of delong.csv: the multimodal against the unimodal network on the hold-out."""
    printed = {row["subset"]: row for row in read_printed("delong")}
    columns = ("subset", "level", "difference", "ci_low", "ci_high", "z", "p_value", "n", "n_patients", "note")
    for row in delong:
        if row["stage"] not in stages.find_paper_table(HOLDOUT_TABLE) or row["first"] != "multimodal-multimodal":
            continue
        paper = printed.get(str(row["subset"]))
        cells: Row = {name: row.get(name) for name in (*columns, "source_first", "source_second")}
        cells |= {"auc_multimodal": row.get("auc_first"), "auc_unimodal": row.get("auc_second")}
        names = ("z", "p_value", "ci_low", "ci_high")
        yield cells | {f"paper_{name}": read_number(paper, name) for name in names}


def add_printed_extremes(rows: Sequence[Row]) -> Iterator[Row]:
    """Table 10, best and worst patients, with the printed figures."""
    keys = ("architecture", "images", "group", "which")
    printed = {tuple(row[name] for name in keys): row for row in read_printed("extremes")}
    for row in rows:
        paper = printed.get(tuple(str(row[name]) for name in keys))
        cells: Row = {"paper_accuracy": read_number(paper, "accuracy", PERCENT)}
        yield row | cells | {f"paper_{end}": read_number(paper, end, PERCENT) for end in ("low", "high")}


def total_rows(summary: Sequence[Row], stages: StageTable) -> Iterator[Row]:
    """Table 10, totals: image-based accuracy, sensitivity and specificity of the patient-based test."""
    of_table = [row for row in read_printed("stages") if row["table"] == str(PATIENT_TEST_TABLE)]
    printed = {(row["architecture"], row["images"]): row for row in of_table}
    columns = (*JOB_COLUMNS, "metric", "value", *ENDS, "n", "n_patients", "source")
    for row in summary:
        whole = (row["subset"], row["level"]) == ("all", "image") and row["metric"] in PROPORTIONS
        if whole and row["stage"] in stages.find_paper_table(PATIENT_TEST_TABLE):
            paper = printed.get((str(row["architecture"]), str(row["images"])))
            cells: Row = {name: row.get(name) for name in columns}
            yield cells | _printed_proportion(paper, str(row["metric"]), "paper_value")
