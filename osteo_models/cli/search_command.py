"""`osteo search`: the DVC stages up to `search`, and its candidates as a table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy.engine import make_url

from osteo_models.ops.dvc_stages import open_stages
from osteo_models.ops.parameter_checks import check_params
from osteo_models.registry.run_context import RunContext
from osteo_models.search.leaderboard import CANDIDATES, FOLDER, SUMMARY, read_candidates, summarize_search, tabulate
from osteo_models.search.study_storage import (
    count_refused,
    explain_storage,
    find_latest,
    list_candidates,
    read_record,
    read_sessions,
    storage_url,
)
from osteo_models.search.winner import BEST

Found = dict[str, Any]
COLUMNS = ("candidate", "status", "balanced_accuracy", "macs", "parameters", "seconds_per_epoch", "epochs", "pareto")


def run_search(context: RunContext, *, say: Callable[[str], None], output: int | None = None) -> Found:
    """Run the search of params.yaml to its end; one that is finished is found finished.

    Args:
        context: The run context.
        say: Takes each line.
        output: File descriptor for what the DVC stages print.

    Returns:
        `candidates` (rows of candidates.csv), `summary` (summary.json) and `best` (best.yaml).

    Raises:
        OsteoError: A stage failed; the same command continues where it stopped.
    """
    check_params(context.params)
    with open_stages(context, say, output=output) as stages:
        stages.reproduce("search")
    artifacts = context.settings.artifacts
    folder = artifacts / FOLDER
    return {
        "candidates": read_candidates(folder / CANDIDATES),
        "summary": json.loads((folder / SUMMARY).read_text(encoding="utf-8")),
        "best": yaml.safe_load((artifacts / BEST).read_text(encoding="utf-8")),
    }


def read_status(context: RunContext) -> Found:
    """The search that was at work last, as it stands; nothing is run.

    Raises:
        InputError: There is none.
    """
    settings = context.settings
    url = storage_url(settings.state, context.params.search.storage or settings.search_storage)
    with explain_storage(url):
        study = find_latest(url)
        records = [read_record(trial) for trial in list_candidates(study)]
        summary = summarize_search(records, read_sessions(study), count_refused(study))
    return {"study": study.study_name, "candidates": tabulate(records), "summary": summary}


def describe_dashboard(context: RunContext) -> str:
    """How to look at all studies in the browser."""
    url = make_url(storage_url(context.settings.state, context.params.search.storage))
    here, file = Path.cwd(), url.database or ""
    if url.get_backend_name() == "sqlite" and Path(file).is_relative_to(here):
        url = url.set(database=str(Path(file).relative_to(here)))  # shorter
    return f"Look at it in the browser: optuna-dashboard {shlex.quote(url.render_as_string(hide_password=True))}"


def as_lines(found: Found) -> list[str]:
    """A table of the candidates, the best one first, and the winner with both its numbers."""
    summary = found["summary"]
    rows = sorted(found["candidates"], key=lambda row: (row["status"] != "finished", -(row["balanced_accuracy"] or 0)))
    lines = ["  candidate  status    bal. acc.  million MACs  parameters  s/epoch  epochs  network"]
    lines += [_line(row) for row in rows]
    lines += [f"  candidate {row['candidate']} failed: {row['reason']}" for row in rows if row["status"] == "failed"]
    counts = ", ".join(f"{summary[name]} {name}" for name in ("finished", "pruned", "failed") if summary[name])
    names = {"rejected_shapes": "impossible", "rejected_costs": "too costly", "rejected_repeats": "tried before"}
    refused = ", ".join(f"{summary[name]} {text}" for name, text in names.items() if summary[name])
    lines.append(f"{summary['candidates']} candidates ({counts}); refused untrained: {refused or 'none'}")
    lines.append(
        f"Overhead {summary['overhead_seconds_per_candidate']:.2f} s per candidate; "
        f"workers idle {100 * summary['idle_share']:.1f} % of {summary['wall_seconds']:.0f} s; * Pareto front"
    )
    if summary["best_candidate"] is not None:
        lines.append(
            f"Winner: candidate {summary['best_candidate']}, balanced accuracy of patients "
            f"{summary['best_balanced_accuracy']:.3f} in the search{_again(summary)}"
        )
    return lines


def _line(row: Found) -> str:
    value, seconds = row["balanced_accuracy"], row["seconds_per_epoch"]
    shown = ("" if value is None else f"{value:.3f}") + ("*" if row["pareto"] else " ")
    pace = "" if seconds is None else f"{seconds:.2f}"
    spec = json.loads(row["spec"])
    return (
        f"  {row['candidate']:>9}  {row['status']:<8}  {shown:>9}  {row['macs'] / 1e6:>12.1f}  {row['parameters']:>10,}"
        f"  {pace:>7}  {row['epochs']:>6}  {_describe(spec)}"
    )


def _describe(spec: Found) -> str:
    """A network in short: filters@kernel, /stride, the pooling, then the dense layers."""
    if not spec:
        return "the paper's"
    layers: Sequence[tuple[int, int, int, int]] = list(
        zip(*(spec[name] for name in ("filters", "kernels", "strides", "pools")), strict=True)
    )
    words = [
        f"{filters}@{kernel}" + (f"/{stride}" if stride > 1 else "") + (f" {spec['pooling']}{pool}" if pool > 1 else "")
        for filters, kernel, stride, pool in layers
    ]
    return ", ".join(words) + " | " + (" ".join(str(units) for units in spec["dense"]) or "no dense layer")


def _again(summary: Found) -> str:
    value = summary.get("reestimated_balanced_accuracy")
    if value is None:
        return ""
    low, high = summary["reestimated_low"], summary["reestimated_high"]
    interval = "" if low is None else f" ({low:.3f}-{high:.3f})"
    return f", {value:.3f}{interval} on fresh folds: the best of many is chosen for its luck too"
