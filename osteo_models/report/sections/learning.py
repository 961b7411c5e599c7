"""Learning curves: loss and balanced accuracy by epoch, mean over folds with the folds' range."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import Any

from osteo_models.core.terms import PROTOCOLS
from osteo_models.report.charts import Axis, Band, Line, Panel, choose_ticks, draw_chart
from osteo_models.report.report_data import Curve, Evidence, Facts, Records
from osteo_models.report.sections.stages import order_networks
from osteo_models.report.wording import is_number, name_network


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {"learning": build_learning_panels(evidence)}


def build_learning_panels(evidence: Evidence) -> dict[str, list[Panel]]:
    """Per stage and network, both protocols in one panel."""
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
    whole = [tick for tick in choose_ticks(1, last) if tick == int(tick)]
    epochs = Axis("epoch", 1, max(2, last), [1, *(tick for tick in whole if 1 < tick <= last)], 0)
    # the axes fit the means: one diverging fold must not flatten all others
    loss_ticks = choose_ticks(0, 1.1 * max((y for line in losses for _, y in line.points), default=1))
    lowest = min([0.5, *(y for line in scores for _, y in line.points)])
    score_ticks = [tick for tick in choose_ticks(lowest, 1) if tick <= 1]
    loss = Axis("loss", 0, loss_ticks[-1], loss_ticks, 2)
    score = Axis("balanced accuracy", score_ticks[0], 1, score_ticks, 1)
    drawings = [
        draw_chart(f"{title}: loss by epoch", epochs, loss, losses, loss_bands, small=True),
        draw_chart(
            f"{title}: balanced accuracy on the test images by epoch", epochs, score, scores, score_bands, small=True
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
