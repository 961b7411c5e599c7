"""The proposed networks in all stages at a glance: ours under both protocols, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osteo_models.report.evidence import Evidence, read_paper_stages
from osteo_models.report.facts import Facts
from osteo_models.report.stages import index_summary
from osteo_models.report.wording import (
    is_number,
    name_network,
    title_stage,
    write_count,
    write_metric,
)
from osteo_models.stage_table import StageTable
from osteo_models.terms import ImageSet, Stage, proposed_network

BALANCED: Final = "balanced_accuracy"


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
