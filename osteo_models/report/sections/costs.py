"""What each architecture costs: parameters, multiply-accumulates and seconds per epoch, beside the paper's."""

from __future__ import annotations

from statistics import median
from typing import Any

from osteo_models.core.terms import IMAGE_SETS, job_name
from osteo_models.report.html_table import Cell, Row, Table, count, make_table, number, word
from osteo_models.report.report_data import Evidence, Facts, Records, read_paper
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import PROPOSED, is_number, name_architecture

COLUMNS = (
    "Architecture",
    "<Weights",
    "Parameters",
    "Trainable",
    "MACs, millions",
    "MRI, s/epoch",
    "CT, s/epoch",
    "Combined, s/epoch",
    "Multimodal, s/epoch",
    "Features, s",
    "Paper, s/epoch",
    "<Epochs",
    "Jobs",
    "Time, min",
)
CAPTION = (
    "Medians over the jobs of an architecture. MACs: multiply-accumulates of one image, forward. Time: of all training "
    "and of the features, added up over the workers; below it by the clock, while any of its jobs was at work, beside "
    "those of others."
)


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {"table": build_costs(evidence), "total": tell_total(evidence)}


def tell_total(evidence: Evidence) -> str:
    """What all jobs took together; empty where there are none."""
    if not evidence.jobs:
        return ""
    spent = _add_up(evidence)
    seconds = sum(_worker_seconds(jobs, spent) for jobs in _group_jobs(evidence).values())
    clock = _clock_seconds(evidence.jobs)
    told = "" if clock is None else f"; by the clock {clock / 60:,.1f} min, while any of them was at work"
    return f"The {len(evidence.jobs)} jobs took {seconds / 60:,.1f} min of the workers' time{told}."


def build_costs(evidence: Evidence) -> Table:
    """A row for each architecture and kind of weights; times of epochs are medians over its jobs."""
    spent, groups = _add_up(evidence), _group_jobs(evidence)
    paper = {row["architecture"]: row["seconds_per_epoch"] for row in read_paper("costs")}
    known = {architecture for architecture, *_ in groups}
    rows = [
        _cost_row(key, groups[key], paper.get(key[0]), _worker_seconds(groups[key], spent))
        for key in sorted(groups, key=lambda one: order_networks(one[:2]))
    ]
    if rows:
        rows += [_absent_row(name, seconds) for name, seconds in paper.items() if name not in known]
    return make_table("costs-table", CAPTION, COLUMNS, rows, files=["jobs.json", "curves/"])


def _group_jobs(evidence: Evidence) -> dict[tuple[str, str, str], Records]:
    """Jobs by architecture, weights and precision."""
    groups: dict[tuple[str, str, str], Records] = {}
    for job in evidence.jobs:
        groups.setdefault((job["architecture"], _weights(job), str(job.get("precision", ""))), []).append(job)
    return groups


def _add_up(evidence: Evidence) -> dict[tuple[str, str], float]:
    """Seconds of all folds and epochs, by stage and name of a job."""
    return {
        (curve.stage, curve.job): sum(row["seconds"] for row in curve.rows if is_number(row.get("seconds")))
        for curve in evidence.curves
    }


def _worker_seconds(jobs: Records, spent: dict[tuple[str, str], float]) -> float:
    """What the jobs of one architecture and kind of weights took all workers; they share their features."""
    names = [(job["stage"], job_name(job["architecture"], job["images"], job["protocol"])) for job in jobs]
    return sum(spent.get(name, 0.0) for name in names) + (_median(jobs, "feature_seconds") or 0.0)


def _clock_seconds(jobs: Records) -> float | None:
    """How long any of the jobs was at work; None where that is not known of all."""
    times = sorted((job["started"], job["ended"]) for job in jobs if is_number(job.get("started")))
    if len(times) < len(jobs):
        return None
    seconds = until = 0.0
    for started, ended in times:
        seconds += max(0.0, ended - max(started, until))
        until = max(until, ended)
    return seconds


def _time(worker_seconds: float, jobs: Records) -> Cell:
    clock = _clock_seconds(jobs)
    return number(worker_seconds / 60, 1, detail="" if clock is None else f"{clock / 60:.1f} by the clock")


def _weights(job: dict[str, Any]) -> str:
    """Where a network started from, such as "imagenet, frozen"."""
    start = str(job.get("weights") or "none")
    shown = "from scratch" if start == "none" else start
    return f"{shown}, {job['transfer']}" if job.get("transfer") else shown


def _cost_row(key: tuple[str, str, str], jobs: Records, paper: Any, worker_seconds: float) -> Row:
    architecture, weights, precision = key
    seconds = {
        images: _median([job for job in jobs if job["images"] == images], "seconds_per_epoch") for images in IMAGE_SETS
    }
    macs, features = _median(jobs, "macs"), _median(jobs, "feature_seconds")
    epochs = sorted({int(job["epochs"]) for job in jobs})
    cells = [
        word(name_architecture(architecture)),
        word(weights),
        count(max(job["parameters"] for job in jobs)),
        count(max(job["trainable_parameters"] for job in jobs)),
        number(macs / 1e6 if macs else None, 1),
        *(number(value, 2) for value in seconds.values()),
        number(features if features else None, 1),
        number(paper, 1),
        word(", ".join(str(one) for one in epochs), detail=precision),
        count(len(jobs)),
        _time(worker_seconds, jobs),
    ]
    return Row(cells, "patient" if architecture in PROPOSED else "")


def _absent_row(architecture: str, paper: Any) -> Row:
    blank = len(COLUMNS) - 6
    cells = [
        word(name_architecture(architecture)),
        word("not run", kind="missing"),
        *(number(None) for _ in range(blank)),
    ]
    return Row([*cells, number(paper, 1), word(None), count(0), number(None)], "paper")


def _median(jobs: Records, name: str) -> float | None:
    found = [float(job[name]) for job in jobs if is_number(job.get(name))]
    return median(found) if found else None
