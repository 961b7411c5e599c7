"""The architecture search: accuracy against cost, and the winner with its optimistic and its re-estimated figure."""

from __future__ import annotations

import json
from typing import Any, Final

from osteo_models.report.charts import Axis, Dot, Line, Panel, choose_decades, choose_ticks, draw_chart
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.wording import is_number, write_count, write_interval, write_metric, write_points

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
        f"{write_metric('accuracy', best)} %, the best of {write_count(summary.get('finished'))} and so optimistic. "
    )
    if not is_number(again):
        return text + "It was not estimated again on fresh folds."
    interval = write_interval("accuracy", summary.get("reestimated_low"), summary.get("reestimated_high"))
    change = f", {write_points(again - best)} points" if is_number(best) else ""
    figure = f"{write_metric('accuracy', again)} % ({interval or 'interval undefined'})"
    return f"{text}Estimated again on fresh folds: {figure}{change}."


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
        f"{title}: {len(points)} candidates; the front joins those that no other beats in both",
        Axis(f"{label} (logarithmic)", low, high, ticks, 0 if min(ticks) >= 1 else 2, logarithmic=True),
        Axis("balanced accuracy", levels[0], levels[-1], levels, 2),
        [Line(find_front([(x, y) for x, y, _ in points]), "s-front")],
        dots=sorted(dots, key=lambda dot: dot.style == "winner"),
        size=(520, 320),
    )
    return Panel(title, [chart], [], ["search/candidates.csv"])


def find_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, accuracy) that no other beats in both, by rising cost."""
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
