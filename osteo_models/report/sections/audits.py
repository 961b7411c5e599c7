"""Audits: what image folds hide, what leaks, what age, sex or the header alone can do, and for whom it fails."""

from __future__ import annotations

from typing import Any, Final

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import stage_number
from osteo_models.report.charts import Forest, Mark, choose_ticks
from osteo_models.report.html_table import (
    Cell,
    Table,
    count,
    estimate,
    key_of,
    make_table,
    measure,
    number,
    source,
    word,
)
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.sections.subgroups import build_groups, build_modalities
from osteo_models.report.wording import (
    ARCHITECTURES,
    IMAGES,
    PREDICTORS,
    is_number,
    name_network,
    name_split,
    name_stages,
    write_count,
    write_metric,
    write_points,
    write_row_interval,
    write_signed,
)

VALIDATIONS: Final[dict[str, str]] = {
    "folds": "folds of whole patients",
    "holdout": "hold-out of close ages",
    "patient_test": "patient-based test",
}
PAIRS_SHOWN: Final = 40


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    tables, stages = evidence.tables, evidence.stages
    apart = stages.select("holdout", "patient_test")
    return {
        "optimism": build_optimism(tables["image_vs_patient"]),
        "duplicates": build_duplicates(tables["duplicates"], stages),
        "pairs": build_pairs(tables["duplicate_pairs"]),
        "shared": build_shared(tables["shared"], stages),
        "shortcuts": build_shortcuts(tables["shortcuts"]),
        "shortcut_table": build_shortcut_table(tables["shortcuts"]),
        "beyond": build_beyond(tables["beyond"]),
        "groups": build_groups(tables["groups"], stages.select("folds"), "subgroups-table"),
        "tests": build_groups(tables["groups"], apart, "subgroups-tests"),
        "apart": name_stages(apart),
        "modalities": build_modalities(tables["modalities"]),
    }


def build_optimism(rows: Records, metric: str = "balanced_accuracy") -> Forest | None:
    """Image minus patient protocol per network in percentage points, the widest gap first."""
    chosen = [row for row in rows if row["metric"] == metric and is_number(row["difference"])]
    chosen.sort(key=lambda row: -row["difference"])
    if not chosen:
        return None
    marks = [
        Mark(
            f"{name_network(row['architecture'], row['images'])} (stage {stage_number(row['stage'])})",
            f"{write_points(row['difference'])} points",
            100 * row["difference"],
            100 * row["ci_low"] if is_number(row["ci_low"]) else None,
            100 * row["ci_high"] if is_number(row["ci_high"]) else None,
            "patient" if row["architecture"] in ("unimodal", "multimodal") else "other",
            f"{write_points(row['ci_low'])} to {write_points(row['ci_high'])}; {write_metric(metric, row['image'])} "
            f"against {write_metric(metric, row['patient'])}; {write_count(row['n_patients'])} patients",
            str(row["source_image"]).replace("-image.parquet", "-{image,patient}.parquet"),
        )
        for row in chosen
    ]
    return _forest("Optimism of image folds, balanced accuracy", marks, 0.0)


def _forest(title: str, marks: list[Mark], line: float, scale: list[Mark] | None = None) -> Forest:
    """An axis that holds every interval, those of `scale` too, and the line of nothing."""
    shown = [end for mark in scale or marks for end in (mark.value, mark.low, mark.high) if end is not None] + [line]
    ticks = choose_ticks(min(shown), max(shown))
    return Forest(title, marks, ticks[0], ticks[-1], ticks, line)


def build_beyond(rows: Records) -> Table:
    """Each network minus age, sex or header alone on the same images."""
    found = []
    for row in sorted(rows, key=lambda one: (one["stage"], order_networks((one["architecture"], one["images"])))):
        if row["metric"] != "roc_auc":
            continue
        known = is_number(row["ci_low"]) and is_number(row["ci_high"])
        detail = f"{write_signed(row['ci_low'])} to {write_signed(row['ci_high'])}" if known else "interval undefined"
        found.append(
            [
                word(name_network(row["architecture"], row["images"])),
                word(stage_number(row["stage"])),
                word(PREDICTORS.get(row["predictor"], row["predictor"])),
                measure("roc_auc", row["model"]),
                measure("roc_auc", row["shortcut"]),
                Cell(write_signed(row["difference"]), detail, key_of(row["difference"])),
                count(row["n"]),
                count(row["n_patients"]),
                word(row["note"]),
                source(row["source"]),
            ]
        )
    columns = (
        *("Network", "<Stage", "<Against", "ROC AUC", "Of the shortcut", "Difference", "Images", "Patients", "<Note"),
        "<Predictions",
    )
    caption = "Each network minus a shortcut on the same images; 95 % intervals that count patients."
    return make_table("beyond", caption, columns, found)


def build_duplicates(rows: Records, stages: StageTable) -> Table:
    """Equal or nearly equal images on two sides of a split."""
    found = [
        [
            word(name_split(str(row["split"]), stages)),
            word(row["kind"], detail=f"correlation from {row['threshold']:g}" if is_number(row["threshold"]) else ""),
            count(row["pairs"]),
            count(row["pairs_other_patient"]),
            count(row["images"]),
            count(row["n"]),
            measure("accuracy", row["share"]),
            source(row["source"]),
        ]
        for row in rows
    ]
    columns = (
        *("Split", "<Kind", "Pairs", "Of other patients", "Tested images with a twin in training", "Tested images"),
        *("Share, %", "<From"),
    )
    return make_table("duplicates", "Equal and nearly equal images across a split.", columns, found)


def build_pairs(rows: Records) -> Table:
    """The closest pairs of images."""
    found = [
        [
            word(row["image_id_a"]),
            word(row["image_id_b"]),
            word("yes" if str(row["patient_a"]) == str(row["patient_b"]) else "no"),
            number(row["correlation"], 4),
            word("yes" if row["exact"] == 1 else "no"),
            word(str(row["splits"]).replace(";", ", ") if isinstance(row["splits"], str) else None),
        ]
        for row in rows[:PAIRS_SHOWN]
    ]
    columns = ("Image", "<Its twin", "<Same patient", "Correlation", "<Exact", "<Across")
    caption = f"The closest pairs, {len(found)} of {len(rows)}."
    return make_table("duplicate-pairs", caption, columns, found, files=["evaluation/duplicate_pairs.csv"])


def build_shared(rows: Records, stages: StageTable) -> Table:
    """Patients, studies or series on two sides of a split."""
    found = [
        [
            word(name_split(str(row["split"]), stages)),
            word(row["unit"]),
            count(row["units"]),
            count(row["units_total"]),
            count(row["images"]),
            count(row["n"]),
            measure("accuracy", row["share"]),
            word(row["note"]),
            source(row["source"]),
        ]
        for row in rows
    ]
    columns = (
        *(
            "Split",
            "<Unit",
            "On two sides",
            "Of",
            "Tested images whose unit is trained on",
            "Tested images",
            "Share, %",
        ),
        *("<Note", "<From"),
    )
    return make_table("shared", "Patients, studies and series on two sides of a split.", columns, found)


def build_shortcuts(rows: Records) -> list[Forest]:
    """ROC AUC of age, sex and header alone beside the image models, per image set and validation."""
    places: dict[tuple[str, str], Records] = {}
    for row in rows:
        if row["metric"] == "roc_auc":  # the multimodal network sees the images of both modalities
            images = "combined" if row["images"] == "multimodal" else row["images"]
            places.setdefault((row["validation"], images), []).append(row)
    plots: dict[str, list[Mark]] = {}
    for validation in VALIDATIONS:
        for images in IMAGES:
            found = places.get((validation, images), [])
            marks = [_shortcut_mark(row) for row in sorted(found, key=_order_predictor)]
            if any(mark.value is not None for mark in marks):
                plots[f"{IMAGES[images]}, {VALIDATIONS[validation]}"] = marks
    everything = [mark for marks in plots.values() for mark in marks]
    return [_forest(title, marks, 0.5, everything) for title, marks in plots.items()]


def _order_predictor(row: dict[str, Any]) -> tuple[bool, int]:
    names = [*PREDICTORS, *ARCHITECTURES]
    place = names.index(row["predictor"]) if row["predictor"] in names else len(names)
    return (row["kind"] == "shortcut", place)


def _shortcut_mark(row: dict[str, Any]) -> Mark:
    value, low, high = (float(row[name]) if is_number(row[name]) else None for name in ("value", "ci_low", "ci_high"))
    counts = f"{write_count(row['n_patients'])} patients"
    interval = write_row_interval("roc_auc", row) or "interval undefined"
    note = row["note"] if isinstance(row["note"], str) and row["note"] else ""
    kind = "shortcut" if row["kind"] == "shortcut" else "patient"
    label = PREDICTORS.get(row["predictor"]) or ARCHITECTURES.get(row["predictor"], str(row["predictor"]))
    return Mark(
        label,
        write_metric("roc_auc", value),
        value,
        low,
        high,
        kind,
        note or f"{interval}; {counts}",
        str(row["source"]),
    )


def build_shortcut_table(rows: Records) -> Table:
    """The same with both metrics, and what the predictors used."""
    pairs: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = (row["validation"], row["images"], row["kind"], row["predictor"])
        pairs.setdefault(key, {})[row["metric"]] = row
    found = []
    for (validation, images, _, predictor), metrics in sorted(
        pairs.items(), key=lambda item: (item[0][0], order_networks((item[0][3], item[0][1])), item[0][2])
    ):
        first = next(iter(metrics.values()))
        cells = [
            word(PREDICTORS.get(predictor) or ARCHITECTURES.get(predictor, predictor)),
            word(IMAGES.get(images, images)),
        ]
        cells.append(word(VALIDATIONS.get(validation, validation)))
        cells += [estimate(name, metrics.get(name, {})) for name in ("balanced_accuracy", "roc_auc")]
        used = str(first["columns"]).replace(";", ", ") if isinstance(first["columns"], str) else None
        note = "; ".join(str(part) for part in (used, first["note"]) if isinstance(part, str) and part)
        found.append([*cells, count(first["n"]), count(first["n_patients"]), word(note), source(first["source"])])
    columns = (
        *("Predictor", "<Images", "<Validation", "Balanced accuracy, %", "ROC AUC", "Images", "Patients"),
        *("<Uses", "<From"),
    )
    caption = "Age, sex and header alone beside the image models, whole patients left out."
    return make_table("shortcuts", caption, columns, found)
