"""What each architecture costs: parameters, multiply-accumulates and seconds per epoch, beside the paper's."""

from __future__ import annotations

from statistics import median
from typing import Any

from osteo_models.report.evidence import Evidence, Records, read_paper
from osteo_models.report.facts import Facts
from osteo_models.report.stages import order_networks
from osteo_models.report.table import Row, Table, count, make_table, number, word
from osteo_models.report.wording import PROPOSED, is_number, name_architecture
from osteo_models.terms import IMAGE_SETS

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
)


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {"table": build_costs(evidence)}


def build_costs(evidence: Evidence) -> Table:
    """A row for each architecture and kind of weights; times are medians over its jobs."""
    paper = {row["architecture"]: row["seconds_per_epoch"] for row in read_paper("costs")}
    groups: dict[tuple[str, str, str], Records] = {}
    for job in evidence.jobs:
        groups.setdefault((job["architecture"], _weights(job), str(job.get("precision", ""))), []).append(job)
    known = {architecture for architecture, *_ in groups}
    rows = [
        _cost_row(key, groups[key], paper.get(key[0]))
        for key in sorted(groups, key=lambda one: order_networks(one[:2]))
    ]
    if rows:
        rows += [_absent_row(name, seconds) for name, seconds in paper.items() if name not in known]
    caption = "Medians over the jobs of an architecture. MACs: multiply-accumulates of one image, forward."
    return make_table("costs-table", caption, COLUMNS, rows, files=["jobs.json"])


def _weights(job: dict[str, Any]) -> str:
    """Where a network started from, such as "imagenet, frozen"."""
    start = str(job.get("weights") or "none")
    shown = "from scratch" if start == "none" else start
    return f"{shown}, {job['transfer']}" if job.get("transfer") else shown


def _cost_row(key: tuple[str, str, str], jobs: Records, paper: Any) -> Row:
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
    ]
    return Row(cells, "patient" if architecture in PROPOSED else "")


def _absent_row(architecture: str, paper: Any) -> Row:
    blank = len(COLUMNS) - 5
    cells = [
        word(name_architecture(architecture)),
        word("not run", kind="missing"),
        *(number(None) for _ in range(blank)),
    ]
    return Row([*cells, number(paper, 1), word(None), count(0)], "paper")


def _median(jobs: Records, name: str) -> float | None:
    found = [float(job[name]) for job in jobs if is_number(job.get(name))]
    return median(found) if found else None
