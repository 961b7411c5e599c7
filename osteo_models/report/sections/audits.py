"""Audits: image folds, leaks, predictions from age, sex or header alone, and subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from osteo_models.core.terms import stage_number
from osteo_models.report.charts import Forest, Mark, choose_ticks
from osteo_models.report.report_data import Records, ReportData, gather_metrics
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import (
    ARCHITECTURES,
    IMAGES,
    PREDICTORS,
    PROPOSED,
    TITLES,
    is_number,
    name_network,
    name_predictor,
    name_stages,
    write_count,
    write_metric,
    write_points,
    write_row_interval,
)

VALIDATIONS: Final[dict[str, str]] = {
    "folds": "folds of whole patients",
    "holdout": "hold-out of close ages",
    "patient_test": "patient-based test",
}
KINDS: Final = ("sex", "age", "scanner", "modality")
USES: Final = {
    **{name: f"{title} alone" for name, title in TITLES.items()},
    "pooled": "all images, each by itself",
    "pairs": "mean of each pair",
}


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    tables, stages = data.tables, data.stages
    apart = stages.select("holdout", "patient_test")
    beyond = [row for row in tables["beyond"] if row["metric"] == "roc_auc"]
    predictors = gather_metrics(tables["shortcuts"], "validation", "images", "kind", "predictor")
    return {
        "optimism": build_optimism(tables["image_vs_patient"]),
        "duplicates": tables["duplicates"],
        "pairs": tables["duplicate_pairs"],
        "shared": tables["shared"],
        "shortcuts": build_shortcuts(tables["shortcuts"]),
        "shortcut_table": sorted(
            predictors,
            key=lambda row: (row["validation"], order_networks((row["predictor"], row["images"])), row["kind"]),
        ),
        "beyond": sorted(beyond, key=lambda row: (row["stage"], order_networks((row["architecture"], row["images"])))),
        "folds": build_groups(tables["groups"], stages.select("folds")),
        "tests": build_groups(tables["groups"], apart),
        "apart": name_stages(apart),
        "modalities": gather_metrics(tables["modalities"], "stage", "architecture", "images", "protocol", "use"),
        "validations": VALIDATIONS,
        "uses": USES,
    }


def build_optimism(rows: Records) -> Forest | None:
    """Balanced accuracy of the image minus the patient protocol per network, the widest gap first."""
    name = "balanced_accuracy"
    shown = [row for row in rows if row["metric"] == name and is_number(row["difference"])]
    if not shown:
        return None
    marks = [
        Mark(
            f"{name_network(row['architecture'], row['images'])} (stage {stage_number(row['stage'])})",
            f"{write_points(row['difference'])} points",
            100 * row["difference"],
            100 * row["ci_low"] if is_number(row["ci_low"]) else None,
            100 * row["ci_high"] if is_number(row["ci_high"]) else None,
            "patient" if row["architecture"] in ("unimodal", "multimodal") else "other",
            f"{write_points(row['ci_low'])} to {write_points(row['ci_high'])}; {write_metric(name, row['image'])} "
            f"against {write_metric(name, row['patient'])}; {write_count(row['n_patients'])} patients",
            str(row["source_image"]).replace("-image.parquet", "-{image,patient}.parquet"),
        )
        for row in sorted(shown, key=lambda row: -row["difference"])
    ]
    return Forest("Optimism of image folds, balanced accuracy", {"": marks}, _choose_scale(marks, 0.0), 0.0)


def _choose_scale(marks: list[Mark], line: float) -> list[float]:
    """Ticks that span every interval and the value of no effect."""
    shown = [end for mark in marks for end in (mark.value, mark.low, mark.high) if end is not None] + [line]
    return choose_ticks(min(shown), max(shown))


def build_shortcuts(rows: Records) -> list[Forest]:
    """ROC AUC of age, sex and header alone with the image models, per image set and validation."""
    groups: dict[tuple[str, str], Records] = {}
    for row in rows:
        if row["metric"] == "roc_auc":  # the multimodal network sees the images of both modalities
            images = "combined" if row["images"] == "multimodal" else row["images"]
            groups.setdefault((row["validation"], images), []).append(row)
    plots: dict[str, list[Mark]] = {}
    for validation in VALIDATIONS:
        for images in IMAGES:
            marks = [_shortcut_mark(row) for row in sorted(groups.get((validation, images), []), key=_order_predictor)]
            if any(mark.value is not None for mark in marks):
                plots[f"{IMAGES[images]}, {VALIDATIONS[validation]}"] = marks
    ticks = _choose_scale([mark for marks in plots.values() for mark in marks], 0.5)
    return [Forest(title, {"": marks}, ticks, 0.5) for title, marks in plots.items()]


def _order_predictor(row: dict[str, Any]) -> tuple[bool, int]:
    names = [*PREDICTORS, *ARCHITECTURES]
    rank = names.index(row["predictor"]) if row["predictor"] in names else len(names)
    return (row["kind"] == "shortcut", rank)


def _shortcut_mark(row: dict[str, Any]) -> Mark:
    value, low, high = (float(row[name]) if is_number(row[name]) else None for name in ("value", "ci_low", "ci_high"))
    interval = write_row_interval("roc_auc", row) or "interval undefined"
    note = row["note"] if isinstance(row["note"], str) and row["note"] else ""
    return Mark(
        name_predictor(str(row["predictor"])),
        write_metric("roc_auc", value),
        value,
        low,
        high,
        "shortcut" if row["kind"] == "shortcut" else "patient",
        note or f"{interval}; {write_count(row['n_patients'])} patients",
        str(row["source"]),
    )


def build_groups(rows: Records, stages: Sequence[str]) -> list[dict[str, Any]]:
    """The proposed networks in some stages, whole patients left out, with a row for each group of patients."""
    shown = [row for row in rows if row["architecture"] in PROPOSED and row["stage"] in stages]
    jobs: dict[tuple[str, str, str], Records] = {}
    for record in gather_metrics(shown, "stage", "architecture", "images", "by", "group"):
        record["label"] = _name_group(str(record["by"]), str(record["group"]))
        jobs.setdefault((record["stage"], record["architecture"], record["images"]), []).append(record)
    return [
        {
            "title": f"{name_network(*job[1:])}, stage {stage_number(job[0])}",
            "rows": sorted(jobs[job], key=_order_group),
            "files": [jobs[job][0]["source"]],
        }
        for job in sorted(jobs, key=lambda job: (job[0], order_networks(job[1:])))
    ]


def _order_group(row: dict[str, Any]) -> tuple[int, bool, str]:
    """Sex, age from the youngest on, scanner, modality."""
    by, name = str(row["by"]), str(row["group"])
    return (KINDS.index(by) if by in KINDS else len(KINDS), not name.startswith("under"), name)


def _name_group(by: str, group: str) -> str:
    if by == "age":
        years = group.replace("-", "–")
        return years.replace(" and", " years and") if " and" in years else f"{years} years"
    return {"F": "women", "M": "men"}.get(group) or (f"{TITLES[group]} images" if group in TITLES else group)
