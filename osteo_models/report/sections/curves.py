"""ROC and calibration curves."""

from __future__ import annotations

from typing import Any

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import IMAGE_SETS, stage_number
from osteo_models.report.charts import Axis, Dot, Legend, Line, Panel, draw_chart
from osteo_models.report.html_table import Table, count, make_table, measure, source, word
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.sections.stages import Index, index_summary
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
Job = tuple[str, str]  # architecture, protocol
Places = dict[tuple[str, str], dict[Job, Records]]  # by stage and image set


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {
        "roc": build_roc_panels(evidence),
        "calibration": build_calibration_panels(evidence),
        "slopes": build_slopes(evidence),
    }


def _by_place(rows: Records, stages: StageTable) -> Places:
    found: Places = {}
    for row in rows:
        place = found.setdefault((row["stage"], row["images"]), {})
        place.setdefault((row["architecture"], row["protocol"]), []).append(row)
    places = [(stage, images) for stage in stages.names for images in IMAGE_SETS]
    return {place: found[place] for place in places if place in found}


def _rank(job: Job) -> tuple[bool, bool, str]:
    """Drawn last is on top: the proposed network, its patient protocol above all."""
    return (job[0] in PROPOSED, job[1] == "patient", job[0])


def _style(job: Job) -> str:
    architecture, protocol = job
    return f"s-{protocol}" if architecture in PROPOSED else f"s-other o-{protocol}"


def _title(stage: str, images: str) -> str:
    return f"Stage {stage_number(stage)}: {IMAGES[images]}"


def build_roc_panels(evidence: Evidence) -> list[Panel]:
    """One panel per stage and image set: the proposed network under both protocols, the others in grey."""
    stages, summary = evidence.stages, index_summary(evidence.summary)
    return [
        _roc_panel(summary, place, jobs, folds=place[0] in stages.select("folds"))
        for place, jobs in _by_place(evidence.tables["roc"], stages).items()
    ]


def _roc_panel(summary: Index, place: tuple[str, str], jobs: dict[Job, Records], *, folds: bool) -> Panel:
    stage, images = place
    lines: list[Line] = []
    legend: list[Legend] = []
    for job in sorted(jobs, key=_rank):
        architecture, protocol = job
        points = [(row["false_positive_rate"], row["true_positive_rate"]) for row in jobs[job]]
        lines.append(Line(points, _style(job)))
        area = summary.get((stage, architecture, images, protocol, "all", "image"), {}).get("roc_auc", {})
        interval = write_interval("roc_auc", area.get("ci_low"), area.get("ci_high"))
        label = name_architecture(architecture) + (f", {protocol} folds" if folds else "")
        value = write_metric("roc_auc", area.get("value")) + (f" ({interval})" if interval else "")
        legend.insert(0, Legend(_style(job), label, value))
    title = _title(*place)
    told = "; ".join(f"{entry.label} {entry.value}" for entry in legend)
    chart = draw_chart(
        f"ROC curves. {title}. Area under the curve: {told}",
        Axis("1 − specificity", 0, 1, TICKS, 2),
        Axis("sensitivity", 0, 1, TICKS, 2),
        [Line([(0, 0), (1, 1)], "s-chance"), *lines],
    )
    return Panel(title, [chart], legend, sorted({rows[0]["source"] for rows in jobs.values()}))


def build_calibration_panels(evidence: Evidence) -> list[Panel]:
    """One panel per stage and image set: the proposed network with intervals, the others in grey."""
    summary = index_summary(evidence.summary)
    return [
        _calibration_panel(summary, place, jobs)
        for place, jobs in _by_place(evidence.tables["calibration"], evidence.stages).items()
    ]


def _calibration_panel(summary: Index, place: tuple[str, str], jobs: dict[Job, Records]) -> Panel:
    stage, images = place
    lines: list[Line] = []
    dots: list[Dot] = []
    legend: list[Legend] = []
    for job in sorted(jobs, key=_rank):
        rows = [row for row in jobs[job] if is_number(row["mean_score"]) and is_number(row["observed"])]
        lines.append(Line([(row["mean_score"], row["observed"]) for row in rows], _style(job)))
        if job[0] in PROPOSED:
            dots += [_calibration_dot(row, _style(job)) for row in rows]
        metrics = summary.get((stage, job[0], images, job[1], "all", "image"), {})
        slope, brier = (
            write_metric(name, metrics.get(name, {}).get("value")) for name in ("calibration_slope", "brier")
        )
        legend.insert(0, Legend(_style(job), name_architecture(job[0]), f"slope {slope}, Brier {brier}"))
    title = _title(*place)
    told = "; ".join(f"{entry.label} {entry.value}" for entry in legend)
    chart = draw_chart(
        f"Calibration: share of osteoporosis by mean score, in bins of equal size. {title}. {told}",
        Axis("mean score of the bin", 0, 1, TICKS, 2),
        Axis("share with osteoporosis", 0, 1, TICKS, 2),
        [Line([(0, 0), (1, 1)], "s-chance"), *lines],
        dots=dots,
    )
    return Panel(title, [chart], legend, sorted({rows[0]["source"] for rows in jobs.values()}))


def _calibration_dot(row: dict[str, Any], style: str) -> Dot:
    low, high = (row[end] if is_number(row[end]) else None for end in ("low", "high"))
    interval = f" ({low:.2f}–{high:.2f})" if low is not None and high is not None else ""
    words = f"mean score {row['mean_score']:.2f}: {row['observed']:.2f}{interval} of {row['n']:.0f} images"
    return Dot(row["mean_score"], row["observed"], style, words, low, high)


def build_slopes(evidence: Evidence) -> Table:
    """Calibration slope, intercept and Brier score of every job of the patient protocol."""
    rows = []
    for (stage, architecture, images, protocol, subset, level), metrics in index_summary(evidence.summary).items():
        if (protocol, subset, level) != ("patient", "all", "image") or "calibration_slope" not in metrics:
            continue
        cells = [word(name_network(architecture, images)), word(stage_number(stage))]
        for name in ("calibration_slope", "calibration_intercept", "brier"):
            one = metrics[name]
            cells.append(measure(name, one["value"], one["ci_low"], one["ci_high"]))
        brier = metrics["brier"]
        rows.append([*cells, count(brier["n"]), count(brier["n_patients"]), source(brier["source"])])
    columns = ("Network", "Stage", "Slope", "Intercept", "Brier score", "Images", "Patients", "<Predictions")
    return make_table("slopes", "Calibration with whole patients left out; ideal: slope 1, intercept 0.", columns, rows)
