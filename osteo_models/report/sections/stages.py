"""The stages with the paper's figures, the confusion matrices, and the paper's other tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from osteo_models.core.stage_table import StageRow
from osteo_models.core.terms import CLASS_NAMES, IMAGE_SETS, MODALITIES
from osteo_models.evaluation.paper import HOLDOUT_TABLE
from osteo_models.report.report_data import Records, ReportData, read_paper_stages
from osteo_models.report.wording import ARCHITECTURES, IMAGES, METRICS, PROPOSED, is_number, name_network, name_stages

Row = dict[str, Any]


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {"stages": build_stages(data)}


def build_stages(data: ReportData) -> list[tuple[StageRow, list[Row]]]:
    """Every stage with its networks, also those that were not run."""
    paper = read_paper_stages(data.stages)
    stages = []
    for stage in data.stages:
        printed = {(row["architecture"], row["images"]): row for row in paper if row["stage"] == stage.name}
        networks = set(printed) | {(key[1], key[2]) for key in data.index if key[0] == stage.name}
        ordered = sorted(networks, key=order_networks)
        stages.append((stage, [_build_network(data, stage, names, printed.get(names)) for names in ordered]))
    return stages


def order_networks(names: tuple[str, str]) -> tuple[int, int, str]:
    """Sort key of (architecture, images): by image set, the proposed network first."""
    order = list(ARCHITECTURES)
    architecture, images = names
    rank = order.index(architecture) if architecture in order else len(order)
    return (IMAGE_SETS.index(images) if images in IMAGE_SETS else 9, rank, architecture)


def sort_jobs(rows: Records) -> Records:
    """Rows of jobs by image set, the proposed network first."""
    return sorted(rows, key=lambda row: order_networks((row["architecture"], row["images"])))


def _build_network(data: ReportData, stage: StageRow, names: tuple[str, str], printed: Row | None) -> Row:
    """The rows of one network in a stage: ours, then the paper's."""
    rows = list(_own_rows(data, stage, *names))
    files = list(dict.fromkeys(row["file"] for row in rows if row["file"]))
    # The paper's figures below such a network are of ImageNet weights.
    random = any(
        (job["stage"], job["architecture"], job["images"], job.get("weights")) == (stage.name, *names, "random")
        for job in data.jobs
    )
    title = name_network(*names) + (", from random weights" if random else "")
    rows += [_paper_row(printed)] if printed else []
    return {"title": title, "rows": rows, "files": files, "missing": "" if files else "not run"}


def _own_rows(data: ReportData, stage: StageRow, architecture: str, images: str) -> Iterator[Row]:
    labels = {"patient": "Patient folds" if stage.validation == "folds" else "Ours", "image": "Image folds"}
    for protocol, label in labels.items():
        whole = data.find_metrics(stage.name, architecture, images, protocol)
        if not whole:
            continue
        job = {"stage": stage.name, "architecture": architecture, "images": images, "protocol": protocol}
        cells = (job | {"metric": "balanced_accuracy"}).items()
        chosen = next((row for row in data.tables["chosen"] if cells <= row.items()), None)
        yield _own_row(protocol, label, whole, chosen) | {"file": str(whole["accuracy"]["source"])}
        for subset in MODALITIES if protocol == "patient" else ():
            if part := data.index.get((stage.name, architecture, images, protocol, subset, "image")):
                yield _own_row("part", f"of these, {IMAGES[subset]} images", part, None)


def _own_row(origin: str, label: str, metrics: dict[str, Row], chosen: Row | None) -> Row:
    """A row of ours; `chosen` is the balanced accuracy at the threshold chosen on training folds."""
    counts = {name: metrics["accuracy"][name] for name in ("n", "n_patients")}
    return {"origin": origin, "label": label, "metrics": metrics, "chosen": chosen, "file": "", **counts}


def _paper_row(printed: Row) -> Row:
    """The figures as printed, without rounding or correction."""
    figures = {}
    for name in METRICS:
        value, low, high = (printed.get(f"{name}{end}") for end in ("", "_lo", "_hi"))
        is_auc = name == "balanced_accuracy_as_auc" and is_number(value) and value <= 1
        text = f"{value:.3f}" if is_auc else (f"{value:.2f}" if is_number(value) else "–")
        figures[name] = {
            "text": text,
            "interval": f"{low:.1f}–{high:.1f}" if is_number(low) and is_number(high) else "",
        }
    empty = {"chosen": None, "n_patients": None}
    return {"origin": "paper", "label": "Paper, as printed", "figures": figures, "n": printed["n"], **empty}


def build_confusion(data: ReportData) -> dict[str, Any]:
    """The content of the section on confusion matrices."""
    rows = sorted(
        data.tables["confusion"],
        key=lambda row: (
            row["stage"],
            order_networks((row["architecture"], row["images"])),
            row["protocol"] != "patient",
        ),
    )
    proposed = [
        row
        for row in rows
        if (row["protocol"], row["level"], row["kind"]) == ("patient", "image", "default")
        and row["architecture"] in PROPOSED
    ]
    return {"matrices": proposed, "rows": rows, "classes": CLASS_NAMES}


def build_paper_tables(data: ReportData) -> dict[str, Any]:
    """The content of the section on tables 1, 2, 8 and 9 of the paper, and the ledger of its printed percentages."""
    tables = data.tables
    return {
        "skewness": tables["table1"],
        "experiments": tables["table2"],
        "holdout": name_stages(data.stages.find_paper_table(HOLDOUT_TABLE)),
        "scores": sort_jobs(tables["table8"]),
        "delong": tables["table9"],
        "unpaired": [row for row in tables["delong_unpaired"] if row["protocol"] == "patient"],
        "ledger": tables["ledger"],
        "sizes": tables["ledger_sizes"],
        "ledger_words": describe_ledger(tables["ledger"]),
    }


def describe_ledger(rows: Records) -> str:
    """The ledger in a sentence."""
    if not rows:
        return ""
    possible = sum(row["possible"] == 1 for row in rows)
    areas = sum(row["auc_is_balanced"] == 1 for row in rows)
    return (
        f"{possible} of {len(rows)} printed rows are possible as counts at the stated numbers of images; in {areas} "
        "the printed ROC AUC equals the balanced accuracy, so it was taken from decisions, not from scores."
    )
