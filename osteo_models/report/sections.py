"""The sections below the tables: optimism, curves, comparisons, patients, costs, registered versions."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, median

from markupsafe import Markup

from osteo_models.report.charts import Axis, Band, Line, choose_ticks, draw_chart
from osteo_models.report.evidence import Curve, Evidence, Records, read_paper
from osteo_models.report.tables import Index, index_summary, order_networks, sort_jobs
from osteo_models.report.wording import (
    IMAGES,
    PROPOSED,
    STAGES,
    is_number,
    name_architecture,
    name_network,
    write_interval,
    write_metric,
)
from osteo_models.terms import IMAGE_SETS, PROTOCOLS, ImageSet, Stage


@dataclass(frozen=True)
class Legend:
    """A line of a chart in words."""

    style: str
    label: str
    value: str


@dataclass(frozen=True)
class Panel:
    """One or two drawings with their words and the files they come from."""

    title: str
    drawings: list[Markup]
    legend: list[Legend]
    sources: list[str]


def build_optimism(evidence: Evidence, metric: str = "balanced_accuracy") -> Records:
    """Image minus patient protocol per network, the widest gap first."""
    rows = [row for row in evidence.tables["image_vs_patient"] if row["metric"] == metric]
    rows.sort(key=lambda row: -row["difference"] if is_number(row["difference"]) else math.inf)
    return [row | {"network": name_network(row["architecture"], row["images"])} for row in rows]


def build_roc_panels(evidence: Evidence) -> list[Panel]:
    """One panel per stage and image set: the proposed network under both protocols, the others in grey."""
    curves: dict[tuple[str, str], dict[tuple[str, str], Records]] = {}
    for row in evidence.tables["roc"]:
        networks = curves.setdefault((row["stage"], row["images"]), {})
        networks.setdefault((row["architecture"], row["protocol"]), []).append(row)
    summary = index_summary(evidence.summary)
    return [
        _roc_panel(summary, stage, images, curves[stage, images])
        for stage in STAGES
        for images in IMAGE_SETS
        if (stage, images) in curves
    ]


def _roc_panel(summary: Index, stage: Stage, images: ImageSet, curves: dict[tuple[str, str], Records]) -> Panel:
    lines: list[Line] = []
    legend: list[Legend] = []
    # drawn last is on top: the proposed network, its patient protocol above all
    for architecture, protocol in sorted(curves, key=lambda one: (one[0] in PROPOSED, one[1] == "patient", one[0])):
        rows = curves[architecture, protocol]
        style = f"s-{protocol}" if architecture in PROPOSED else f"s-other o-{protocol}"
        lines.append(Line([(row["false_positive_rate"], row["true_positive_rate"]) for row in rows], style))
        area = summary.get((stage, architecture, images, protocol, "all", "image"), {}).get("roc_auc", {})
        interval = write_interval("roc_auc", area.get("ci_low"), area.get("ci_high"))
        label = name_architecture(architecture) + (f", {protocol} folds" if stage < "stage-5" else "")
        value = write_metric("roc_auc", area.get("value")) + (f" ({interval})" if interval else "")
        legend.insert(0, Legend(style, label, value))
    title = f"Stage {stage[-1]}: {IMAGES[images]}"
    told = "; ".join(f"{entry.label} {entry.value}" for entry in legend)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    chart = draw_chart(
        f"ROC curves. {title}. Area under the curve: {told}",
        Axis("1 − specificity", 0, 1, ticks, 2),
        Axis("sensitivity", 0, 1, ticks, 2),
        [Line([(0, 0), (1, 1)], "s-chance"), *lines],
    )
    return Panel(title, [chart], legend, sorted({rows[0]["source"] for rows in curves.values()}))


def build_learning_panels(evidence: Evidence) -> dict[str, list[Panel]]:
    """Loss and balanced accuracy by epoch, per stage and network; mean over folds, with the folds' range."""
    found: dict[str, dict[str, dict[str, Curve]]] = {}
    for curve in evidence.curves:
        network, _, protocol = curve.job.rpartition("-")
        if protocol in PROTOCOLS and curve.rows:
            found.setdefault(curve.stage, {}).setdefault(network, {})[protocol] = curve
    return {
        stage: [_learning_panel(network, networks[network]) for network in sorted(networks, key=_order_network)]
        for stage, networks in sorted(found.items())
    }


def _order_network(network: str) -> tuple[int, int, str]:
    architecture, _, images = network.rpartition("-")
    return order_networks((architecture, images))


def _learning_panel(network: str, curves: dict[str, Curve]) -> Panel:
    architecture, _, images = network.rpartition("-")
    title = name_network(architecture, images)
    losses, scores, loss_bands, score_bands = [], [], [], []
    for protocol in sorted(curves):  # patient last: on top
        rows, style = curves[protocol].rows, f"s-{protocol}"
        low, mean, high = _spread(rows, "test_loss")
        losses += [Line(_spread(rows, "train_loss")[1], f"{style} dashed"), Line(mean, style)]
        loss_bands.append(Band(low, high, style))
        low, mean, high = _spread(rows, "test_balanced_accuracy")
        scores.append(Line(mean, style))
        score_bands.append(Band(low, high, style))
    last = max(int(row["epoch"]) for curve in curves.values() for row in curve.rows)
    epochs = Axis("epoch", 1, max(2, last), [1, *(tick for tick in choose_ticks(1, last) if 1 < tick <= last)], 0)
    # the axes fit the means: one diverging fold must not flatten all others
    loss_ticks = choose_ticks(0, 1.1 * max((y for line in losses for _, y in line.points), default=1))
    lowest = min([0.5, *(y for line in scores for _, y in line.points)])
    score_ticks = choose_ticks(lowest, 1)
    drawings = [
        draw_chart(
            f"{title}: loss by epoch",
            epochs,
            Axis("loss", 0, loss_ticks[-1], loss_ticks, 2),
            losses,
            loss_bands,
            small=True,
        ),
        draw_chart(
            f"{title}: balanced accuracy on the test images by epoch",
            epochs,
            Axis("balanced accuracy", score_ticks[0], 1, [tick for tick in score_ticks if tick <= 1], 1),
            scores,
            score_bands,
            small=True,
        ),
    ]
    return Panel(title, drawings, [], [curve.source for curve in curves.values()])


def _spread(rows: Records, column: str) -> tuple[list[tuple[float, float]], ...]:
    """Lowest, mean and highest over folds, by epoch."""
    by_epoch: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if is_number(row[column]):
            by_epoch[float(row["epoch"])].append(row[column])
    return tuple([(epoch, how(values)) for epoch, values in sorted(by_epoch.items())] for how in (min, fmean, max))


def build_costs(evidence: Evidence) -> Records:
    """Per architecture: parameters, and the median seconds per epoch on each image set, beside the paper's."""
    paper = {row["architecture"]: row["seconds_per_epoch"] for row in read_paper("costs")}
    groups: dict[tuple[str, str], Records] = {}
    for job in evidence.jobs:
        groups.setdefault((job["architecture"], job["precision"]), []).append(job)
    return [
        {
            "architecture": name_architecture(architecture),
            "parameters": max(job["parameters"] for job in jobs),
            "trainable": max(job["trainable_parameters"] for job in jobs),
            "precision": precision,
            "epochs": sorted({job["epochs"] for job in jobs}),
            "seconds": {images: _median_seconds(jobs, images) for images in IMAGE_SETS},
            "paper": paper.get(architecture),
            "jobs": len(jobs),
        }
        for (architecture, precision), jobs in sorted(groups.items(), key=lambda item: order_networks((item[0][0], "")))
    ]


def _median_seconds(jobs: Records, images: str) -> float | None:
    found = [float(job["seconds_per_epoch"]) for job in jobs if job["images"] == images]
    return median(found) if found else None


def build_score_table(evidence: Evidence) -> Records:
    """Table 8: scores of the rightly classified hold-out images, beside the paper's."""
    paper = {(row["architecture"], row["images"]): row for row in read_paper("scores")}
    rows: Records = []
    for row in sort_jobs(evidence.tables["table8"]):
        printed = paper.get((row["architecture"], row["images"]), {})
        name = name_network(row["architecture"], row["images"])
        rows.append({**row, "network": name, "paper_mean": printed.get("mean"), "paper_sd": printed.get("sd")})
    return rows


def build_delong_table(evidence: Evidence) -> Records:
    """Table 9: the multimodal against the unimodal network on the hold-out, at both levels, beside the paper's."""
    paper = {row["subset"]: row for row in read_paper("delong")}
    return [
        row | {"printed": paper.get(row["subset"])}
        for row in evidence.tables["delong"]
        if (row["stage"], row["first"]) == ("stage-5", "multimodal-multimodal")
    ]


def build_versions(evidence: Evidence) -> Records:
    """Registered versions with the figures that a promotion looks at."""
    rows: Records = []
    for version in evidence.versions:
        metrics = version.get("metrics") or {}
        folds = next(
            (name for number in range(1, 5) if f"{(name := f'stage_{number}.patient')}.balanced_accuracy" in metrics),
            "",
        )
        cells = {}
        for label, prefix in (("folds", folds), ("holdout", "stage_5.patient")):
            value = metrics.get(f"{prefix}.balanced_accuracy")
            low, high = (metrics.get(f"{prefix}.balanced_accuracy.{end}") for end in ("ci_low", "ci_high"))
            cells[label] = write_metric("balanced_accuracy", value) if is_number(value) else "–"
            cells[f"{label}_interval"] = write_interval("balanced_accuracy", low, high)
        rows.append({**version, **cells})
    return rows
