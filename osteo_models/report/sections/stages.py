"""The stages' tables: ours under both protocols, the paper's figures beside them, and what was not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from osteo_models.core.stage_table import StageRow
from osteo_models.core.terms import IMAGE_SETS, stage_number
from osteo_models.report.html_table import Cell, Column, Group, Row, Table, count, estimate, key_of, word
from osteo_models.report.report_data import Evidence, Facts, Records, read_paper_stages
from osteo_models.report.wording import (
    ARCHITECTURES,
    IMAGES,
    METRICS,
    UNDEFINED,
    is_number,
    name_network,
    write_count,
    write_metric,
    write_row_interval,
)

Key = tuple[str, str, str, str, str, str]  # stage, architecture, images, protocol, subset, level
Index = dict[Key, dict[str, dict[str, Any]]]


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    tables = build_stage_tables(evidence)
    return {"stages": [(row, tables[row.name]) for row in evidence.stages]}


def index_summary(summary: Records) -> Index:
    """The summary's rows by job, subset and level, then by metric."""
    found: Index = {}
    for record in summary:
        stage, architecture, images = record["stage"], record["architecture"], record["images"]
        key = (stage, architecture, images, record["protocol"], record["subset"], record["level"])
        found.setdefault(key, {})[record["metric"]] = record
    return found


def build_stage_tables(evidence: Evidence) -> dict[str, Table]:
    """All stages, those without results too."""
    ours, paper = index_summary(evidence.summary), read_paper_stages(evidence.stages)
    chosen = {(*_job(row), row["metric"]): row for row in evidence.tables["chosen"]}
    columns = [
        Column("Network and protocol"),
        *(Column(title) for title in METRICS.values()),
        Column("Balanced accuracy at a chosen threshold, %"),
        Column("Images"),
        Column("Patients"),
    ]
    random = {
        (job["stage"], job["architecture"], job["images"]) for job in evidence.jobs if job.get("weights") == "random"
    }
    tables: dict[str, Table] = {}
    for item in evidence.stages:
        stage = item.name
        printed = {(row["architecture"], row["images"]): row for row in paper if row["stage"] == stage}
        wanted = set(printed) | {(key[1], key[2]) for key in ours if key[0] == stage}
        groups = [
            _network_group(ours, chosen, item, network, printed.get(network), (stage, *network) in random)
            for network in sorted(wanted, key=order_networks)
        ]
        beside = f" beside table {item.paper_table}" if item.paper_table else ""
        caption = f"Stage {stage_number(stage)}{beside}; second lines: 95 % intervals."
        tables[stage] = Table(f"table-{stage}", caption, columns, groups)
    return tables


def order_networks(network: tuple[str, str]) -> tuple[int, int, str]:
    """Sort key of (architecture, images): by image set, the proposed network first."""
    known = list(ARCHITECTURES)
    architecture, images = network
    place = known.index(architecture) if architecture in known else len(known)
    return (IMAGE_SETS.index(images) if images in IMAGE_SETS else 9, place, architecture)


def sort_jobs(rows: Records) -> Records:
    """Rows of jobs by image set, the proposed network first."""
    return sorted(rows, key=lambda row: order_networks((row["architecture"], row["images"])))


def _job(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return (row["stage"], row["architecture"], row["images"], row["protocol"])


def _network_group(
    ours: Index,
    chosen: dict[tuple[str, ...], Any],
    stage: StageRow,
    network: tuple[str, str],
    printed: Any,
    random: bool,
) -> Group:
    rows = list(_own_rows(ours, chosen, stage, *network))
    if printed is not None:
        rows.append((_paper_row(printed), ""))
    files = list(dict.fromkeys(file for _, file in rows if file))
    # The paper's figures below such a network are of ImageNet weights.
    title = name_network(*network) + (", from random weights" if random else "")
    return Group(title, [row for row, _ in rows], files, "" if files else "not run")


def _own_rows(
    ours: Index, chosen: dict[tuple[str, ...], Any], row: StageRow, architecture: str, images: str
) -> Iterator[tuple[Row, str]]:
    """Our rows of a network, each with its predictions file."""
    stage, folds = row.name, row.validation == "folds"
    for protocol, label in (("patient", "Patient folds" if folds else "Ours"), ("image", "Image folds")):
        whole = ours.get((stage, architecture, images, protocol, "all", "image"))
        if not whole:
            continue
        other = chosen.get((stage, architecture, images, protocol, "balanced_accuracy"), {})
        yield own_row(protocol, label, whole, other), str(whole["accuracy"]["source"])
        for subset in ("mri", "ct") if protocol == "patient" else ():
            part = ours.get((stage, architecture, images, protocol, subset, "image"))
            if part:
                yield own_row("part", f"of these, {IMAGES[subset]} images", part, {}), ""


def own_row(kind: str, label: str, metrics: dict[str, dict[str, Any]], chosen: dict[str, Any]) -> Row:
    """A row of ours; `chosen` is the balanced accuracy at the threshold chosen on training folds, or empty."""
    cells = [word(label)]
    for name in METRICS:
        one = metrics.get(name, {})
        interval = write_row_interval(name, one) or UNDEFINED
        kind_of_cell = "lead-figure" if name == "balanced_accuracy" else ""
        cells.append(Cell(write_metric(name, one.get("value")), interval, key_of(one.get("value")), kind_of_cell))
    cells.append(_chosen_cell(chosen))
    any_metric = metrics["accuracy"]
    return Row([*cells, count(any_metric["n"]), count(any_metric["n_patients"])], kind)


def _chosen_cell(chosen: dict[str, Any]) -> Cell:
    if not chosen:
        return Cell("–")
    cell = estimate("balanced_accuracy", chosen)
    ends = [chosen.get("threshold_low"), chosen.get("threshold_high")]
    if not all(is_number(end) for end in ends):
        return cell
    at = " to ".join(dict.fromkeys(f"{end:.2f}" for end in ends))
    return Cell(cell.text, f"{cell.detail}, at {at}".removeprefix(", "), cell.key)


def _paper_row(printed: dict[Any, Any]) -> Row:
    """The figures as printed: no rounding, no mending; never what a table is sorted by."""
    cells = [Cell("Paper, as printed")]
    for name in METRICS:
        value = printed.get(name)
        if not is_number(value):
            cells.append(Cell("–"))
            continue
        low, high = printed.get(f"{name}_lo"), printed.get(f"{name}_hi")
        interval = f"{low:.1f}–{high:.1f}" if is_number(low) and is_number(high) else ""
        area = name == "roc_auc_hard" and float(value) <= 1
        cells.append(Cell(f"{value:.3f}" if area else f"{value:.2f}", interval))
    return Row([*cells, Cell("–"), Cell(write_count(printed["n"])), Cell("–")], "paper")
