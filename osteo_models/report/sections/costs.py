"""What each architecture costs, with the paper's times; and the architecture search: accuracy against cost."""

from __future__ import annotations

import json
from statistics import median
from typing import Any, Final

from osteo_models.core.terms import IMAGE_SETS, job_name
from osteo_models.report.charts import Axis, Dot, Line, Panel, choose_decades, choose_ticks, draw_chart
from osteo_models.report.report_data import Records, ReportData, read_paper
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import (
    PROPOSED,
    is_number,
    write_count,
    write_interval,
    write_metric,
    write_points,
)

PLOTTED: Final = {
    "parameters": ("trainable parameters, thousands", 1e3),
    "macs": ("multiply-accumulates of one image, millions", 1e6),
}
COUNTED: Final = {
    "candidates": "Candidates",
    "finished": "Finished",
    "pruned": "Pruned",
    "failed": "Failed",
    "rejected_shapes": "Impossible shapes, rejected before training",
    "rejected_costs": "Too costly, rejected before training",
    "rejected_repeats": "Repeats, rejected before training",
    "folds": "Folds of a candidate",
    "epochs": "Epochs at most",
}
TIMED: Final = {
    "wall_seconds": ("Wall time, s", 0),
    "training_seconds": ("Training time, s", 0),
    "overhead_seconds_per_candidate": ("Overhead per candidate, s", 2),
}


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {"rows": build_costs(data), "total": describe_total(data)}


def describe_total(data: ReportData) -> str:
    """The time of all jobs in a sentence; empty without jobs."""
    if not data.jobs:
        return ""
    spent = _sum_seconds(data)
    seconds = sum(_worker_seconds(jobs, spent) for jobs in _group_jobs(data).values())
    clock = _clock_seconds(data.jobs)
    by_clock = "" if clock is None else f"; wall time {clock / 60:,.1f} min"
    return f"The {len(data.jobs)} jobs took {seconds / 60:,.1f} min of worker time{by_clock}."


def build_costs(data: ReportData) -> Records:
    """A row for each architecture and kind of weights, and for each architecture of the paper that was not run."""
    spent, groups = _sum_seconds(data), _group_jobs(data)
    paper = {row["architecture"]: row["seconds_per_epoch"] for row in read_paper("costs")}
    rows = []
    for architecture, weights, precision in sorted(groups, key=lambda key: order_networks(key[:2])):
        jobs = groups[architecture, weights, precision]
        clock = _clock_seconds(jobs)
        macs = _median(jobs, "macs")
        rows.append(
            {
                "architecture": architecture,
                "origin": "patient" if architecture in PROPOSED else "",
                "weights": weights,
                "parameters": max(job["parameters"] for job in jobs),
                "trainable": max(job["trainable_parameters"] for job in jobs),
                "macs": macs / 1e6 if macs else None,
                "epoch_seconds": {
                    images: _median([job for job in jobs if job["images"] == images], "seconds_per_epoch")
                    for images in IMAGE_SETS
                },
                "features": _median(jobs, "feature_seconds") or None,
                "paper": paper.get(architecture),
                "epochs": ", ".join(map(str, sorted({int(job["epochs"]) for job in jobs}))),
                "precision": precision,
                "jobs": len(jobs),
                "minutes": _worker_seconds(jobs, spent) / 60,
                "clock": "" if clock is None else f"{clock / 60:.1f} wall time",
            }
        )
    measured = {architecture for architecture, *_ in groups}
    empty = dict.fromkeys(("parameters", "trainable", "macs", "features", "minutes"))
    absent = {"origin": "paper", "weights": "not run", "epochs": "", "precision": "", "jobs": 0, "clock": "", **empty}
    absent["epoch_seconds"] = dict.fromkeys(IMAGE_SETS)
    others = [
        absent | {"architecture": name, "paper": seconds} for name, seconds in paper.items() if name not in measured
    ]
    return rows + others if rows else []


def _group_jobs(data: ReportData) -> dict[tuple[str, str, str], Records]:
    """Jobs by architecture, weights and precision."""
    groups: dict[tuple[str, str, str], Records] = {}
    for job in data.jobs:
        weights = str(job.get("weights") or "none").replace("none", "from scratch")
        if job.get("transfer"):
            weights += f", {job['transfer']}"
        groups.setdefault((job["architecture"], weights, str(job.get("precision", ""))), []).append(job)
    return groups


def _sum_seconds(data: ReportData) -> dict[tuple[str, str], float]:
    """Seconds of all folds and epochs, by stage and name of a job."""
    return {
        (curve.stage, curve.job): sum(row["seconds"] for row in curve.rows if is_number(row.get("seconds")))
        for curve in data.curves
    }


def _worker_seconds(jobs: Records, spent: dict[tuple[str, str], float]) -> float:
    """Time of all workers on the jobs of one architecture and kind of weights, which share their features."""
    names = [(job["stage"], job_name(job["architecture"], job["images"], job["protocol"])) for job in jobs]
    return sum(spent.get(name, 0.0) for name in names) + (_median(jobs, "feature_seconds") or 0.0)


def _clock_seconds(jobs: Records) -> float | None:
    """How long at least one of the jobs was running; None when a job has no times."""
    times = sorted((job["started"], job["ended"]) for job in jobs if is_number(job.get("started")))
    if len(times) < len(jobs):
        return None
    seconds = until = 0.0
    for started, ended in times:
        seconds += max(0.0, ended - max(started, until))
        until = max(until, ended)
    return seconds


def _median(jobs: Records, name: str) -> float | None:
    values = [float(job[name]) for job in jobs if is_number(job.get(name))]
    return median(values) if values else None


def build_search(data: ReportData) -> dict[str, Any]:
    """The content of the section on the architecture search."""
    panels = (_pareto_panel(data.candidates, data.search, cost) for cost in PLOTTED)
    return {
        "winner": describe_winner(data.search),
        "panels": [panel for panel in panels if panel],
        "facts": list_facts(data.search),
        "candidates": list_candidates(data),
        "spec": json.dumps(data.best["spec"]) if data.best.get("spec") else "",
    }


def describe_winner(summary: dict[str, Any]) -> str:
    """The winner with its balanced accuracy, which is optimistic as the best of many, and the re-estimated one."""
    if not summary:
        return ""
    best, again = summary.get("best_balanced_accuracy"), summary.get("reestimated_balanced_accuracy")
    text = (
        f"Candidate {summary.get('best_candidate', '?')} won with a balanced accuracy of "
        f"{write_metric('accuracy', best)} %, the best of {write_count(summary.get('finished'))} and optimistic. "
    )
    if not is_number(again):
        return text + "It was not re-estimated on fresh folds."
    interval = write_interval("accuracy", summary.get("reestimated_low"), summary.get("reestimated_high"))
    change = f", {write_points(again - best)} points" if is_number(best) else ""
    figure = f"{write_metric('accuracy', again)} % ({interval or 'interval undefined'})"
    return f"{text}Re-estimated on fresh folds: {figure}{change}."


def list_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values: how many candidates the search tried, and how long it took."""
    facts = [(label, write_count(summary[name])) for name, label in COUNTED.items() if is_number(summary.get(name))]
    facts += [
        (label, f"{summary[name]:,.{digits}f}")
        for name, (label, digits) in TIMED.items()
        if is_number(summary.get(name))
    ]
    if is_number(summary.get("idle_share")):
        facts.append(("Idle share of the workers, %", f"{100 * summary['idle_share']:.1f}"))
    return facts


def _pareto_panel(candidates: Records, summary: dict[str, Any], cost: str) -> Panel | None:
    """Balanced accuracy against one cost; the Pareto front as a line."""
    label, unit = PLOTTED[cost]
    points = [
        (float(row[cost]) / unit, float(row["balanced_accuracy"]), row)
        for row in candidates
        if row["status"] == "finished"
        and is_number(row["balanced_accuracy"])
        and is_number(row[cost])
        and row[cost] > 0
    ]
    if not points:
        return None
    low, high = min(x for x, *_ in points) / 1.25, max(x for x, *_ in points) * 1.25
    ticks = choose_decades(low, high) or [low, high]
    levels = choose_ticks(min(y for _, y, _ in points), max(y for _, y, _ in points))
    dots = [_candidate_dot(x, y, row, label, summary.get("best_candidate")) for x, y, row in points]
    title = f"Balanced accuracy against {label}"
    chart = draw_chart(
        f"{title}: {len(points)} candidates; the line joins the Pareto front",
        Axis(f"{label} (logarithmic)", low, high, ticks, 0 if min(ticks) >= 1 else 2, logarithmic=True),
        Axis("balanced accuracy", levels[0], levels[-1], levels, 2),
        [Line(find_front([(x, y) for x, y, _ in points]), "s-front")],
        dots=sorted(dots, key=lambda dot: dot.style == "winner"),
        size=(520, 320),
    )
    return Panel(title, [chart], [], ["search/candidates.csv"])


def find_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, accuracy) that no other point dominates, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _candidate_dot(cost: float, accuracy: float, row: dict[str, Any], label: str, best: Any) -> Dot:
    style = "winner" if row["candidate"] == best else ("front" if row["pareto"] == 1 else "candidate")
    tooltip = f"candidate {row['candidate']}: balanced accuracy {accuracy:.3f}, {cost:,.3g} {label}"
    return Dot(cost, accuracy, style, tooltip)


def list_candidates(data: ReportData) -> Records:
    """All candidates, the best first; the winner's origin is "patient", which colours its row."""
    best = data.search.get("best_candidate")
    rows = [row | {"origin": "patient" if row["candidate"] == best else ""} for row in data.candidates]
    return sorted(rows, key=lambda row: -row["balanced_accuracy"] if is_number(row["balanced_accuracy"]) else 1.0)
