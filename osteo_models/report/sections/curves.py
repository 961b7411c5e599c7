"""ROC, calibration and learning curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

from osteo_models.core.terms import IMAGE_SETS, PROTOCOLS, stage_number
from osteo_models.report.charts import SMALL, Axis, Band, Dot, Legend, Line, Panel, choose_ticks, draw_chart
from osteo_models.report.report_data import Curve, Records, ReportData
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import (
    IMAGES,
    PROPOSED,
    is_number,
    name_architecture,
    name_network,
    write_interval,
    write_metric,
)

TICKS = (0, 0.25, 0.5, 0.75, 1)
CHANCE = Line([(0, 0), (1, 1)], "s-chance")
Group = tuple[str, str]  # stage, image set
Job = tuple[str, str]  # architecture, protocol


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {
        "roc": _build_panels(data, "roc", _roc_panel),
        "calibration": _build_panels(data, "calibration", _calibration_panel),
        "slopes": list_slopes(data),
    }


def _build_panels(
    data: ReportData, table: str, draw: Callable[[ReportData, Group, dict[Job, Records]], Panel]
) -> list[Panel]:
    """One panel per stage and image set; the proposed network under both protocols, the others in grey."""
    curves: dict[Group, dict[Job, Records]] = {}
    for row in data.tables[table]:
        jobs = curves.setdefault((row["stage"], row["images"]), {})
        jobs.setdefault((row["architecture"], row["protocol"]), []).append(row)
    groups = [(stage, images) for stage in data.stages.names for images in IMAGE_SETS if (stage, images) in curves]
    return [draw(data, group, dict(sorted(curves[group].items(), key=_rank))) for group in groups]


def _rank(entry: tuple[Job, Records]) -> tuple[bool, bool, str]:
    """The last one is drawn on top: the proposed network with its patient protocol."""
    architecture, protocol = entry[0]
    return (architecture in PROPOSED, protocol == "patient", architecture)


def _style(job: Job) -> str:
    architecture, protocol = job
    return f"s-{protocol}" if architecture in PROPOSED else f"s-other o-{protocol}"


def _make_panel(
    group: Group, jobs: dict[Job, Records], legend: list[Legend], text: str, axes: tuple[str, str], **drawn: Any
) -> Panel:
    title = f"Stage {stage_number(group[0])}: {IMAGES[group[1]]}"
    values = "; ".join(f"{entry.label} {entry.value}" for entry in legend)
    x, y = (Axis(label, 0, 1, TICKS, 2) for label in axes)
    chart = draw_chart(text.format(title=title, values=values), x, y, **drawn)
    return Panel(title, [chart], legend, sorted({rows[0]["source"] for rows in jobs.values()}))


def _roc_panel(data: ReportData, group: Group, jobs: dict[Job, Records]) -> Panel:
    stage, images = group
    lines, legend = [CHANCE], []
    for job, rows in jobs.items():
        lines.append(Line([(row["false_positive_rate"], row["true_positive_rate"]) for row in rows], _style(job)))
        auc = data.find_metrics(stage, job[0], images, job[1]).get("roc_auc", {})
        interval = write_interval("roc_auc", auc.get("ci_low"), auc.get("ci_high"))
        label = name_architecture(job[0]) + (f", {job[1]} folds" if stage in data.stages.select("folds") else "")
        value = write_metric("roc_auc", auc.get("value")) + (f" ({interval})" if interval else "")
        legend.insert(0, Legend(_style(job), label, value))
    text = "ROC curves. {title}. Area under the curve: {values}"
    return _make_panel(group, jobs, legend, text, ("1 − specificity", "sensitivity"), lines=lines)


def _calibration_panel(data: ReportData, group: Group, jobs: dict[Job, Records]) -> Panel:
    stage, images = group
    lines, legend, dots = [CHANCE], [], []
    for job, bins in jobs.items():
        rows = [row for row in bins if is_number(row["mean_score"]) and is_number(row["observed"])]
        lines.append(Line([(row["mean_score"], row["observed"]) for row in rows], _style(job)))
        if job[0] in PROPOSED:
            dots += [_calibration_dot(row, _style(job)) for row in rows]
        metrics = data.find_metrics(stage, job[0], images, job[1])
        slope, brier = (
            write_metric(name, metrics.get(name, {}).get("value")) for name in ("calibration_slope", "brier")
        )
        legend.insert(0, Legend(_style(job), name_architecture(job[0]), f"slope {slope}, Brier {brier}"))
    text = "Calibration: share of osteoporosis by mean score, in bins of equal size. {title}. {values}"
    axes = ("mean score of the bin", "share with osteoporosis")
    return _make_panel(group, jobs, legend, text, axes, lines=lines, dots=dots)


def _calibration_dot(row: dict[str, Any], style: str) -> Dot:
    low, high = (row[end] if is_number(row[end]) else None for end in ("low", "high"))
    interval = f" ({low:.2f}–{high:.2f})" if low is not None and high is not None else ""
    tooltip = f"mean score {row['mean_score']:.2f}: {row['observed']:.2f}{interval} of {row['n']:.0f} images"
    return Dot(row["mean_score"], row["observed"], style, tooltip, low, high)


def list_slopes(data: ReportData) -> Records:
    """The metrics of every job of the patient protocol that has a calibration slope."""
    return [
        metrics["brier"] | {"metrics": metrics}
        for (*_, protocol, subset, level), metrics in data.index.items()
        if (protocol, subset, level) == ("patient", "all", "image") and "calibration_slope" in metrics
    ]


def build_learning(data: ReportData) -> dict[str, Any]:
    """The content of the section on learning curves."""
    return {"learning": build_learning_panels(data)}


def build_learning_panels(data: ReportData) -> dict[str, list[Panel]]:
    """Per stage and network: loss and balanced accuracy by epoch, both protocols in one panel."""
    curves: dict[str, dict[tuple[str, str], dict[str, Curve]]] = {}
    for curve in data.curves:
        network_name, _, protocol = curve.job.rpartition("-")
        if protocol in PROTOCOLS and curve.rows:
            architecture, _, images = network_name.rpartition("-")
            curves.setdefault(curve.stage, {}).setdefault((architecture, images), {})[protocol] = curve
    return {
        stage: [
            _learning_panel(name_network(*names), networks[names]) for names in sorted(networks, key=order_networks)
        ]
        for stage, networks in sorted(curves.items())
    }


def _learning_panel(title: str, curves: dict[str, Curve]) -> Panel:
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
    whole = [tick for tick in choose_ticks(1, last) if tick == int(tick) and 1 < tick <= last]
    epochs = Axis("epoch", 1, max(2, last), [1, *whole], 0)
    # the axes fit the means: one diverging fold must not flatten all others
    loss_ticks = choose_ticks(0, 1.1 * max((y for line in losses for _, y in line.points), default=1))
    lowest = min([0.5, *(y for line in scores for _, y in line.points)])
    score_ticks = [tick for tick in choose_ticks(lowest, 1) if tick <= 1]
    loss = Axis("loss", 0, loss_ticks[-1], loss_ticks, 2)
    score = Axis("balanced accuracy", score_ticks[0], 1, score_ticks, 1)
    of_test = f"{title}: balanced accuracy on the test images by epoch"
    drawings = [
        draw_chart(f"{title}: loss by epoch", epochs, loss, losses, loss_bands, size=SMALL),
        draw_chart(of_test, epochs, score, scores, score_bands, size=SMALL),
    ]
    return Panel(title, drawings, [], [curve.source for curve in curves.values()])


def _spread(rows: Records, column: str) -> tuple[list[tuple[float, float]], ...]:
    """Lowest, mean and highest value over folds, by epoch."""
    by_epoch: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if is_number(row[column]):
            by_epoch[float(row["epoch"])].append(row[column])
    return tuple(
        [(epoch, reduce(values)) for epoch, values in sorted(by_epoch.items())] for reduce in (min, fmean, max)
    )
