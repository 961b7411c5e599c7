"""The proposed networks in all stages at a glance, and whether the paper's claims hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import ImageSet, Stage, proposed_network, stage_number
from osteo_models.report.charts import Forest, Mark
from osteo_models.report.report_data import Records, ReportData, read_paper_stages
from osteo_models.report.wording import (
    PROPOSED,
    is_number,
    name_architecture,
    name_network,
    title_stage,
    write_count,
    write_interval,
    write_metric,
    write_p,
)

BALANCED: Final = "balanced_accuracy"
RANKED: Final = (3, 4, 5)  # the paper's tables of the unimodal network among its baselines


@dataclass(frozen=True)
class Bar:
    """The balanced accuracy of a proposed network under both protocols, and the paper's as a proportion."""

    stage: Stage
    network: str
    patient: dict[str, Any]
    image: dict[str, Any]
    paper: float | None


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {"plot": build_plot(data)}


def list_networks(stages: StageTable) -> list[tuple[Stage, str, ImageSet]]:
    """The proposed network of each stage and image set, where the stage lists it."""
    return [
        (row.name, proposed_network(images), images)
        for row in stages
        for images in row.images
        if proposed_network(images) in row.architectures
    ]


def build_bars(data: ReportData) -> list[Bar]:
    """The proposed networks in the order of the stages."""
    printed = {(row["stage"], row["architecture"], row["images"]): row for row in read_paper_stages(data.stages)}
    bars: list[Bar] = []
    for stage, architecture, images in list_networks(data.stages):
        patient, image = (
            data.find_metrics(stage, architecture, images, protocol).get(BALANCED, {})
            for protocol in ("patient", "image")
        )
        paper: dict[str, Any] = printed.get((stage, architecture, images), {})
        # the classes of the patient-based test are of equal size, so that its accuracy is its balanced accuracy
        figure = next((paper[name] for name in (BALANCED, "accuracy") if is_number(paper.get(name))), None)
        bars.append(Bar(stage, name_network(architecture, images), patient, image, figure and figure / 100))
    return bars


def build_plot(data: ReportData) -> Forest:
    """A line for each proposed network, in per cent, by stage."""
    groups: dict[str, list[Mark]] = {}
    for bar in build_bars(data):
        title = f"Stage {stage_number(bar.stage)}. {title_stage(data.stages.find(bar.stage))}"
        groups.setdefault(title, []).append(_mark(bar))
    marks = [mark for group in groups.values() for mark in group]
    shown = [value for mark in marks for value in (mark.value, mark.low, mark.ring, mark.printed) if value is not None]
    low = min(80, int(min(shown, default=50) / 10) * 10)
    ticks = list(range(low, 101, 5 if low >= 80 else 10))
    return Forest("Balanced accuracy of the proposed networks, per cent", groups, ticks)


def _mark(bar: Bar) -> Mark:
    row = bar.patient
    interval = write_interval(BALANCED, row.get("ci_low"), row.get("ci_high"))
    image = write_metric(BALANCED, bar.image["value"]) if is_number(bar.image.get("value")) else ""
    value, low, high, ring = (
        100 * figure if is_number(figure) else None
        for figure in (row.get("value"), row.get("ci_low"), row.get("ci_high"), bar.image.get("value"))
    )
    return Mark(
        bar.network,
        write_metric(BALANCED, row["value"]) if row else "not run",
        value,
        low,
        high,
        note=f"{write_count(row['n'])} images, {write_count(row['n_patients'])} patients" if row else "",
        source=str(row.get("source", "")),
        detail=(f" ({interval})" if interval else "") + (f" · image folds {image}" if image else ""),
        ring=ring,
        printed=bar.paper and 100 * bar.paper,
    )


def judge_claims(data: ReportData) -> tuple[str, list[str]]:
    """Whether the paper's claims hold here, one sentence each; the answer is yes when all do."""
    judged = [_judge_figures(data), _judge_order(data), _judge_test(data.tables["table9"])]
    shares = [share for share, _ in judged if share is not None]
    sentences = [sentence for _, sentence in judged]
    if not shares:
        return "missing", sentences
    return "yes" if all(share == 1 for share in shares) else ("partly" if any(shares) else "no"), sentences


def _judge_figures(data: ReportData) -> tuple[float | None, str]:
    """How many of the paper's figures are within our intervals, under the paper's protocol where it was run."""
    compared, outside = 0, []
    for bar in build_bars(data):
        # the paper's folds are of images; on the test sets there is only the patient protocol
        row = bar.image if bar.stage in data.stages.select("folds") else bar.patient
        low, high = row.get("ci_low"), row.get("ci_high")
        if bar.paper is None or not is_number(low) or not is_number(high):
            continue
        compared += 1
        if not low <= bar.paper <= high:
            figures = f"{100 * low:.1f}–{100 * high:.1f}, paper {100 * bar.paper:.1f}"
            outside.append(f"{bar.network} in stage {stage_number(bar.stage)} ({figures})")
    if not compared:
        return None, "No figure of the paper's networks can be compared."
    inside = compared - len(outside)
    text = f"Figures: {inside} of {compared} balanced accuracies of the paper's networks are within our 95 % intervals"
    return inside / compared, f"{text}; outside: {'; '.join(outside)}." if outside else f"{text}."


def _judge_order(data: ReportData) -> tuple[float | None, str]:
    """Whether the unimodal network leads the baselines, as in tables 3 to 5."""
    led, parts = 0, []
    ranked = [
        (stage, images) for stage in data.stages.find_paper_table(*RANKED) for images in data.stages.find(stage).images
    ]
    for stage, images in ranked:
        for protocol in ("image", "patient"):
            values = {
                key[1]: metrics[BALANCED]["value"]
                for key, metrics in data.index.items()
                if (key[0], *key[2:]) == (stage, images, protocol, "all", "image")
                and is_number(metrics[BALANCED]["value"])
            }
            if len(values) < 2 or "unimodal" not in values:
                continue
            best = max(values, key=lambda name: values[name])
            led += best in PROPOSED
            name = "it" if best in PROPOSED else name_architecture(best)
            parts.append(f"stage {stage_number(stage)} by {protocol} folds {name} is first of {len(values)}")
    if not parts:
        return None, "Order: no baseline was run with the unimodal network."
    return led / len(parts), f"Order (the paper: the unimodal network leads its baselines): {'; '.join(parts)}."


def _judge_test(rows: Records) -> tuple[float | None, str]:
    """Table 9: the paper finds no difference between the multimodal and the unimodal network."""
    tested = [row for row in rows if row["level"] == "image" and is_number(row["p_value"])]
    if not tested:
        return None, "DeLong's test of table 9: missing."
    parts = []
    for row in tested:
        p_value = write_p(row["p_value"])
        printed = f" (paper {row['paper_p_value']:.3f})" if is_number(row["paper_p_value"]) else ""
        equals = "" if p_value.startswith("<") else "= "
        parts.append(f"{str(row['subset']).upper()} p {equals}{p_value}{printed}")
    agree = sum(row["p_value"] >= 0.05 for row in tested)
    return agree / len(tested), f"Multimodal against unimodal (the paper: no difference): {'; '.join(parts)}."
