"""The proposed networks in all stages at a glance: ours under both protocols, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import ImageSet, Stage, proposed_network, stage_number
from osteo_models.report.report_data import Evidence, Facts, Records, read_paper_stages
from osteo_models.report.sections.stages import Index, index_summary
from osteo_models.report.wording import (
    PROPOSED,
    is_number,
    name_architecture,
    name_network,
    title_stage,
    write_count,
    write_metric,
    write_p,
)

BALANCED: Final = "balanced_accuracy"
RANKED: Final = (3, 4, 5)  # the paper's tables of the unimodal network among its baselines
Answer = Literal["yes", "partly", "no", "missing"]


@dataclass(frozen=True)
class Bar:
    """One line of the headline chart; proportions, None where there is nothing."""

    stage: str
    title: str
    architecture: str
    images: str
    network: str
    patient: float | None
    low: float | None
    high: float | None
    image: float | None
    paper: float | None
    text: str
    counts: str
    source: str


@dataclass(frozen=True)
class Scale:
    """The chart's axis in proportions."""

    low: float
    ticks: list[float]

    def place(self, value: float) -> float:
        """Where a proportion lies, in per cent of the width."""
        return 100 * max(0.0, value - self.low) / (1 - self.low)


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    bars = build_bars(evidence)
    return {"bars": bars, "scale": choose_scale(bars)}


def list_networks(stages: StageTable) -> list[tuple[Stage, str, ImageSet]]:
    """The proposed network of each stage and image set, where the stage lists it."""
    return [
        (row.name, proposed_network(images), images)
        for row in stages
        for images in row.images
        if proposed_network(images) in row.architectures
    ]


def build_bars(evidence: Evidence) -> list[Bar]:
    """The proposed networks in the order of the stages."""
    ours = index_summary(evidence.summary)
    printed = {(row["stage"], row["architecture"], row["images"]): row for row in read_paper_stages(evidence.stages)}
    bars: list[Bar] = []
    for stage, architecture, images in list_networks(evidence.stages):
        patient = ours.get((stage, architecture, images, "patient", "all", "image"), {}).get(BALANCED, {})
        image = ours.get((stage, architecture, images, "image", "all", "image"), {}).get(BALANCED, {})
        paper: dict[Any, Any] = printed.get((stage, architecture, images), {})
        # the classes of the patient-based test are of equal size, so that its accuracy is its balanced accuracy
        figure = _number(paper.get(BALANCED)) or _number(paper.get("accuracy"))
        bars.append(
            Bar(
                stage,
                title_stage(evidence.stages.find(stage)),
                architecture,
                images,
                name_network(architecture, images),
                _number(patient.get("value")),
                _number(patient.get("ci_low")),
                _number(patient.get("ci_high")),
                _number(image.get("value")),
                None if figure is None else figure / 100,
                write_metric(BALANCED, patient.get("value")) if patient else "not run",
                f"{write_count(patient['n'])} images, {write_count(patient['n_patients'])} patients" if patient else "",
                str(patient.get("source", "")),
            )
        )
    return bars


def choose_scale(bars: list[Bar]) -> Scale:
    """From a round number below everything shown, to 100 %."""
    shown = [value for bar in bars for value in (bar.patient, bar.low, bar.image, bar.paper) if value is not None]
    low = min(8, int(10 * min(shown, default=0.5))) / 10
    step = 0.05 if low >= 0.8 else 0.1
    count = round((1 - low) / step)
    return Scale(low, [round(low + step * number, 2) for number in range(count + 1)])


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None


def judge_claims(evidence: Evidence) -> tuple[Answer, list[str]]:
    """Whether each claim holds here, in sentences; the answer is yes where all do."""
    judged = [
        _judge_figures(evidence, build_bars(evidence)),
        _judge_order(index_summary(evidence.summary), evidence.stages),
        _judge_test(evidence.tables["table9"]),
    ]
    known = [held for held, _ in judged if held is not None]
    sentences = [sentence for _, sentence in judged]
    if not known:
        return "missing", sentences
    answer: Answer = "yes" if all(share == 1 for share in known) else ("partly" if any(known) else "no")
    return answer, sentences


def _judge_figures(evidence: Evidence, bars: list[Bar]) -> tuple[float | None, str]:
    """How many of the paper's figures lie within our intervals, under the paper's protocol where it was run."""
    index, asked, held = index_summary(evidence.summary), 0, 0
    apart: list[str] = []
    for bar in bars:
        low, high = _interval(index, bar, evidence.stages)
        if bar.paper is None or low is None or high is None:
            continue
        asked += 1
        if low <= bar.paper <= high:
            held += 1
        else:
            figures = f"{100 * low:.1f}–{100 * high:.1f}, paper {100 * bar.paper:.1f}"
            apart.append(f"{bar.network} in stage {stage_number(bar.stage)} ({figures})")
    if not asked:
        return None, "No figure of the paper's networks can be compared."
    told = f"Figures: {held} of {asked} balanced accuracies of the paper's networks lie within our 95 % intervals"
    return held / asked, f"{told}; outside: {'; '.join(apart)}." if apart else f"{told}."


def _interval(index: Index, bar: Bar, stages: StageTable) -> tuple[float | None, float | None]:
    """Ours under the image protocol, as the paper's folds were; on the test sets there is only the patient protocol."""
    protocol = "image" if bar.stage in stages.select("folds") else "patient"
    row = index.get((bar.stage, bar.architecture, bar.images, protocol, "all", "image"), {}).get(BALANCED, {})
    low, high = row.get("ci_low"), row.get("ci_high")
    return (float(low), float(high)) if is_number(low) and is_number(high) else (None, None)


def _judge_order(index: Index, stages: StageTable) -> tuple[float | None, str]:
    """Whether the unimodal network leads the baselines, as in tables 3 to 5."""
    led, parts = 0, []
    ranked = [(stage, images) for stage in stages.find_paper_table(*RANKED) for images in stages.find(stage).images]
    for stage, images in ranked:
        for protocol in ("image", "patient"):
            found = {
                key[1]: metrics[BALANCED]["value"]
                for key, metrics in index.items()
                if (key[0], key[2], key[3], key[4], key[5]) == (stage, images, protocol, "all", "image")
                and is_number(metrics[BALANCED]["value"])
            }
            if len(found) < 2 or "unimodal" not in found:
                continue
            best = max(found, key=lambda name: found[name])
            led += best in PROPOSED
            parts.append(
                f"stage {stage_number(stage)} by {protocol} folds "
                + ("it" if best in PROPOSED else name_architecture(best))
                + f" is first of {len(found)}"
            )
    if not parts:
        return None, "Order: no baseline ran beside the unimodal network."
    return led / len(parts), f"Order (the paper: the unimodal network leads its baselines): {'; '.join(parts)}."


def _judge_test(rows: Records) -> tuple[float | None, str]:
    """Table 9: the paper finds no difference between the multimodal and the unimodal network."""
    known = [row for row in rows if row["level"] == "image" and is_number(row["p_value"])]
    if not known:
        return None, "DeLong's test of table 9: missing."
    agrees = sum(row["p_value"] >= 0.05 for row in known)
    parts = "; ".join(f"{str(row['subset']).upper()} p {_equals(row)}{_printed(row)}" for row in known)
    return agrees / len(known), f"Multimodal against unimodal (the paper: no difference): {parts}."


def _equals(row: dict[str, Any]) -> str:
    shown = write_p(row["p_value"])
    return shown if shown.startswith("<") else f"= {shown}"


def _printed(row: dict[str, Any]) -> str:
    return f" (paper {row['paper_p_value']:.3f})" if is_number(row["paper_p_value"]) else ""
