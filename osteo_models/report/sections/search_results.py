"""The architecture search: accuracy against cost, and the winner with its optimistic and its honest figure."""

from __future__ import annotations

import json
from typing import Any, Final

from osteo_models.report.charts import Axis, Dot, Line, Panel, choose_decades, choose_ticks, draw_chart
from osteo_models.report.html_table import Cell, Row, Table, count, make_table, measure, number, word
from osteo_models.report.report_data import Evidence, Facts, Records, Search
from osteo_models.report.wording import is_number, write_count, write_interval, write_metric, write_points

COSTS: Final = {
    "parameters": ("trainable parameters, thousands", 1e3),
    "macs": ("multiply-accumulates of one image, millions", 1e6),
    "seconds_per_epoch": ("seconds per epoch", 1.0),
}
PLOTTED: Final = ("parameters", "macs")


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    found = evidence.search
    return {
        "winner": tell_winner(found.summary),
        "panels": [panel for cost in PLOTTED if (panel := _pareto_panel(found.candidates, found.summary, cost))],
        "facts": list_facts(found.summary),
        "candidates": build_candidates(found),
        "spec": json.dumps(found.best["spec"]) if found.best.get("spec") else "",
    }


def tell_winner(summary: dict[str, Any]) -> str:
    """Best-of-N is optimistic: both figures, and what lies between them."""
    if not summary:
        return ""
    best, again = summary.get("best_balanced_accuracy"), summary.get("reestimated_balanced_accuracy")
    low, high = summary.get("reestimated_low"), summary.get("reestimated_high")
    told = (
        f"Candidate {summary.get('best_candidate', '?')} won with a balanced accuracy of "
        f"{write_metric('accuracy', best)} %, the best of {write_count(summary.get('finished'))} and so optimistic. "
    )
    if not is_number(again):
        return told + "It was not estimated again on fresh folds."
    interval = write_interval("accuracy", low, high)
    fallen = f", {write_points(again - best)} points" if is_number(best) else ""
    figure = f"{write_metric('accuracy', again)} % ({interval or 'interval undefined'})"
    return f"{told}Estimated again on fresh folds: {figure}{fallen}."


def list_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What the search did and what it cost, as names and values."""
    counted = (
        ("Candidates", "candidates"),
        ("Finished", "finished"),
        ("Pruned", "pruned"),
        ("Failed", "failed"),
        ("Impossible shapes, rejected before training", "rejected_shapes"),
        ("Too costly, rejected before training", "rejected_costs"),
        ("Repeats, rejected before training", "rejected_repeats"),
        ("Folds of a candidate", "folds"),
        ("Epochs at most", "epochs"),
    )
    found = [(label, write_count(summary[name])) for label, name in counted if is_number(summary.get(name))]
    seconds = (
        ("Wall time, s", "wall_seconds", 0),
        ("Training time, s", "training_seconds", 0),
        ("Overhead per candidate, s", "overhead_seconds_per_candidate", 2),
    )
    found += [
        (label, f"{summary[name]:,.{digits}f}") for label, name, digits in seconds if is_number(summary.get(name))
    ]
    if is_number(summary.get("idle_share")):
        found.append(("Idle share of the workers, %", f"{100 * summary['idle_share']:.1f}"))
    return found


def _pareto_panel(candidates: Records, summary: dict[str, Any], cost: str) -> Panel | None:
    """Balanced accuracy against one cost; the front as a line."""
    label, unit = COSTS[cost]
    done = [
        row
        for row in candidates
        if row["status"] == "finished"
        and is_number(row["balanced_accuracy"])
        and is_number(row[cost])
        and row[cost] > 0
    ]
    if not done:
        return None
    places = [(float(row[cost]) / unit, float(row["balanced_accuracy"])) for row in done]
    low, high = min(x for x, _ in places) / 1.25, max(x for x, _ in places) * 1.25
    ticks = choose_decades(low, high) or [low, high]
    levels = choose_ticks(min(y for _, y in places), max(y for _, y in places))
    best = summary.get("best_candidate")
    dots = [_candidate_dot(row, place, label, best) for row, place in zip(done, places, strict=True)]
    digits = 0 if min(ticks) >= 1 else 2
    title = f"Balanced accuracy against {label}"
    chart = draw_chart(
        f"{title}: {len(done)} candidates; the front joins those that no other beats in both",
        Axis(f"{label} (logarithmic)", low, high, ticks, digits, logarithmic=True),
        Axis("balanced accuracy", levels[0], levels[-1], levels, 2),
        [Line(_front(places), "s-front")],
        dots=sorted(dots, key=lambda dot: dot.style == "winner"),
        size=(520, 320),
    )
    return Panel(title, [chart], [], ["search/candidates.csv"])


def _front(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other beats in both, from the cheapest on."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(places, key=lambda place: (place[0], -place[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _candidate_dot(row: dict[str, Any], place: tuple[float, float], label: str, best: Any) -> Dot:
    style = "winner" if row["candidate"] == best else ("front" if row["pareto"] == 1 else "candidate")
    words = f"candidate {row['candidate']}: balanced accuracy {place[1]:.3f}, {place[0]:,.3g} {label}"
    return Dot(place[0], place[1], style, words)


def build_candidates(search: Search) -> Table:
    """All candidates, the best first."""
    ordered = sorted(
        search.candidates, key=lambda row: -row["balanced_accuracy"] if is_number(row["balanced_accuracy"]) else 1.0
    )
    best = search.summary.get("best_candidate")
    rows = [
        Row(
            [
                Cell(f"{row['candidate']}{' (winner)' if row['candidate'] == best else ''}", key=row["candidate"]),
                word(row["status"], detail=row["reason"] if isinstance(row.get("reason"), str) else ""),
                measure("accuracy", row["balanced_accuracy"]),
                count(row["parameters"]),
                number(row["macs"] / 1e6 if is_number(row["macs"]) else None, 2),
                number(row["seconds_per_epoch"], 2),
                count(row["epochs"]),
                word("yes" if row["pareto"] == 1 else "no"),
                Cell(str(row["spec"]), kind="words source"),
            ],
            "patient" if row["candidate"] == best else "",
        )
        for row in ordered
    ]
    columns = (
        *("Candidate", "<Status", "Balanced accuracy, %", "Parameters", "Multiply-accumulates, millions"),
        *("s per epoch", "Epochs", "<On the front", "<Settings"),
    )
    return make_table("candidates", "All candidates.", columns, rows, files=["search/candidates.csv"])
