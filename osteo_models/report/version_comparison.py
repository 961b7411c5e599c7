"""Two registered versions side by side: stage metrics, paired tests on shared images, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import PROTOCOLS, Protocol, Stage, metric_prefix, stage_number
from osteo_models.evaluation.predictions import Predictions
from osteo_models.report.build import render_page, write_page
from osteo_models.report.html_table import Cell, Row, Table, count, key_of, make_table, measure, source, word
from osteo_models.report.version_pairing import Difference, Pair, pair_versions
from osteo_models.report.wording import (
    AREAS,
    KINDS,
    METRICS,
    is_number,
    write_metric,
    write_p,
    write_points,
    write_signed,
)

Head = tuple[str, str]  # a stage, and the head of its metrics
SHOWN: Final = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier")
PINNED: Final = (
    "git.commit",
    "git.tree",
    "dvc.data",
    "dvc.splits",
    "profile",
    "synthetic",
    "osteo.job",
    "osteo.weights",
)


@dataclass(frozen=True)
class Side:
    """A version as the page shows it.

    Attributes:
        reference: As it was asked for.
        settings: Architecture, image set, precision and spec.
        predictions: Its scores on images that it was not trained on.
    """

    reference: str
    name: str
    version: int
    aliases: Sequence[str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    settings: Mapping[str, str]
    predictions: Sequence[Predictions]

    @property
    def title(self) -> str:
        return f"{self.name} version {self.version}"


def write_comparison(
    out: Path, first: Side, second: Side, stages: StageTable, *, threshold: float, synthetic: bool
) -> Path:
    """Write the page.

    Args:
        stages: The table of stages.
        threshold: A score from here on is decided as osteoporosis.
        synthetic: Whether either was made from a phantom: the page says so.
    """
    pairs = pair_versions(first.predictions, second.predictions, threshold=threshold)
    page = render_page(
        "comparison.html.j2",
        first=first,
        second=second,
        synthetic=synthetic,
        sentences=tell_pairs(first, second, pairs),
        metrics=build_metrics(first, second, stages),
        pairs=build_pairs(pairs),
        origins=build_origins(first, second),
    )
    return write_page(out, page)


def tell_pairs(first: Side, second: Side, pairs: Sequence[Pair]) -> list[str]:
    """What the paired tests come to, whole patients left out; or why there are none."""
    if not pairs:
        return [
            "No image was scored by both versions, so that no paired test is possible: the metrics stand side by side."
        ]
    sentences = []
    for pair in pairs:
        if pair.protocol != "patient":
            continue
        gap = pair.balanced_accuracy
        where = f"{pair.kind.capitalize()} ({pair.n:,} shared images of {pair.n_patients} patients)"
        if gap.difference is None or gap.low is None or gap.high is None:
            sentences.append(f"{where}: the difference is undefined.")
            continue
        interval = f"{write_points(gap.low)} to {write_points(gap.high)}"
        figures = f"{write_points(gap.difference)} points of balanced accuracy ({interval})"
        if gap.low <= 0 <= gap.high:
            reading = "no difference beyond chance"
        else:
            reading = f"{(second if gap.difference > 0 else first).title} is better"
        sentences.append(f"{where}: B minus A is {figures}: {reading}.")
    return sentences


def build_metrics(first: Side, second: Side, stages: StageTable) -> Table:
    """The stage metrics of both with their intervals; what one took no part in is a dash."""
    rows: list[Row] = []
    for kind, label in KINDS.items():
        for protocol in reversed(PROTOCOLS):
            heads = [_took_part(side, stages.select(kind), protocol) for side in (first, second)]
            if any(heads):
                rows += [
                    _metric_row(first, second, heads, f"{label.capitalize()}, by {protocol}", name) for name in SHOWN
                ]
    columns = (
        *(
            "Metric",
            "<Test",
            "<Stage of A, B",
            "A",
            "B",
            "B − A",
            "Images, A",
            "Images, B",
            "Patients, A",
            "Patients, B",
        ),
    )
    return make_table("metrics", "Stage metrics with 95 % intervals, as registered.", columns, rows, files=["registry"])


def _took_part(side: Side, stages: Sequence[Stage], protocol: Protocol) -> Head | None:
    """The first of these stages that a version took part in, with the head of its metrics."""
    for stage in stages:
        head = metric_prefix(stage, protocol)
        if any(name.startswith(f"{head}.") for name in side.metrics):
            return stage, head
    return None


def _metric_row(first: Side, second: Side, heads: Sequence[Head | None], test: str, name: str) -> Row:
    sides = [
        [side.metrics.get(f"{head[1]}.{name}{end}") if head else None for end in ("", ".ci_low", ".ci_high")]
        for side, head in zip((first, second), heads, strict=True)
    ]
    values = [found[0] for found in sides]
    gap = values[1] - values[0] if values[0] is not None and values[1] is not None else None
    write = write_points if name not in AREAS else write_signed
    figures = [measure(name, found[0], found[1], found[2]) if is_number(found[0]) else Cell("–") for found in sides]
    counts = [
        count(side.metrics.get(f"{head[1]}.{what}") if head else None)
        for what in ("n", "n_patients")
        for side, head in zip((first, second), heads, strict=True)
    ]
    shown = ", ".join(stage_number(head[0]) if head else "–" for head in heads)
    difference = Cell(write(gap) if is_number(gap) else "–", key=key_of(gap))
    return Row([word(METRICS[name]), word(test), Cell(shown, key=shown), *figures, difference, *counts])


def build_pairs(pairs: Sequence[Pair]) -> Table:
    """Paired tests on the images that both have scored."""
    rows = [
        [
            word(pair.kind.capitalize()),
            word(pair.protocol),
            Cell(write_metric("accuracy", pair.balanced_accuracy.first), key=key_of(pair.balanced_accuracy.first)),
            Cell(write_metric("accuracy", pair.balanced_accuracy.second), key=key_of(pair.balanced_accuracy.second)),
            _gap(pair.balanced_accuracy, points=True),
            Cell(write_metric("roc_auc", pair.roc_auc.first), key=key_of(pair.roc_auc.first)),
            Cell(write_metric("roc_auc", pair.roc_auc.second), key=key_of(pair.roc_auc.second)),
            _gap(pair.roc_auc, points=False),
            *(_delong(test) for test in (pair.by_image, pair.by_patient)),
            count(pair.n),
            count(pair.n_patients),
            word(pair.note),
            source(*pair.sources),
        ]
        for pair in pairs
    ]
    columns = (
        *("Test", "<Protocol", "Balanced accuracy, A, %", "B, %", "B − A, points", "ROC AUC, A", "B", "B − A"),
        *("DeLong by image: z, p", "By patient: z, p", "Shared images", "Patients", "<Note", "<Predictions"),
    )
    caption = "On the images that both have scored: differences with 95 % intervals that count patients."
    return make_table("pairs", caption, columns, rows)


def _gap(gap: Difference, *, points: bool) -> Cell:
    write: Any = write_points if points else write_signed
    known = gap.low is not None and gap.high is not None
    detail = f"{write(gap.low)} to {write(gap.high)}" if known else "interval undefined"
    return Cell(write(gap.difference), detail, key_of(gap.difference))


def _delong(test: Any) -> Cell:
    if test is None or test.z is None:
        return Cell("undefined")
    return Cell(f"{write_signed(test.z)}, {write_p(test.p_value)}", key=key_of(test.p_value))


def build_origins(first: Side, second: Side) -> Table:
    """Data, splits, code and settings of both, and whether they are the same."""
    names = [*PINNED, *(f"settings: {name}" for name in sorted({*first.settings, *second.settings}))]
    rows = []
    for name in names:
        values = [_origin(side, name) for side in (first, second)]
        if values == ["", ""]:
            continue
        known = all(values)
        state = "same" if values[0] == values[1] else ("differs" if known else "not known")
        cells = [word(name), word(state, kind="" if state == "same" else "bad")]
        rows.append(
            [*cells, *(Cell(value or "not recorded", key=value or None, kind="words source") for value in values)]
        )
    caption = "Where they come from: data, splits, code, settings."
    return make_table("origins", caption, ("What", "<Same", "<A", "<B"), rows, files=["registry"])


def _origin(side: Side, name: str) -> str:
    if name.startswith("settings: "):
        return str(side.settings.get(name.removeprefix("settings: "), ""))
    return str(side.tags.get(name, ""))
