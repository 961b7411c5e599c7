"""What each architecture costs: parameters, multiply-accumulates and seconds per epoch, with the paper's."""

from __future__ import annotations

from statistics import median
from typing import Any

from osteo_models.core.terms import IMAGE_SETS, job_name
from osteo_models.report.report_data import Records, ReportData, read_paper
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import PROPOSED, is_number


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
    by_clock = "" if clock is None else f"; by the clock {clock / 60:,.1f} min, while any of them was at work"
    return f"The {len(data.jobs)} jobs took {seconds / 60:,.1f} min of the workers' time{by_clock}."


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
                "clock": "" if clock is None else f"{clock / 60:.1f} by the clock",
            }
        )
    known = {architecture for architecture, *_ in groups}
    empty = dict.fromkeys(("parameters", "trainable", "macs", "features", "minutes"))
    absent = {"origin": "paper", "weights": "not run", "epochs": "", "precision": "", "jobs": 0, "clock": "", **empty}
    absent["epoch_seconds"] = dict.fromkeys(IMAGE_SETS)
    others = [absent | {"architecture": name, "paper": seconds} for name, seconds in paper.items() if name not in known]
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
