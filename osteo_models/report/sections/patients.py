"""Patient by patient: strip plots of the scores, each patient counted once, best and worst patient (table 10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from osteo_models.core.terms import CLASS_NAMES, MODALITIES, Stage, stage_number
from osteo_models.evaluation.paper import PATIENT_TEST_TABLE
from osteo_models.report.charts import SIZE, Panel, draw_text, make_svg
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.sections.stages import order_networks, sort_jobs
from osteo_models.report.wording import PROPOSED, is_number, name_network, name_stages

NAMED: Final = 40  # with more patients in a plot the lines are closer and have no names
Scores = dict[tuple[str, str, str], list[float]]  # by predictions file, patient and modality


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    scores, configured = _read_scores(data), data.run.param("evaluate.threshold")
    threshold = float(configured) if is_number(configured) else 0.5
    tests = data.stages.select("patient_test")
    return {
        "panels": build_panels(data, scores, threshold),
        "tests": [(stage, list_patients(stage, data, scores, threshold)) for stage in tests],
        "printed": name_stages(data.stages.find_paper_table(PATIENT_TEST_TABLE)),
        "levels": list_levels(data),
        "extremes": sort_jobs(data.tables["table10"]),
        "totals": sort_jobs(data.tables["table10_totals"]),
        "threshold": threshold,
    }


def _read_scores(data: ReportData) -> Scores:
    """The images' scores of the jobs that the section shows."""
    tests = data.stages.select("patient_test")
    files = {row["source"] for row in data.tables["patients"] if _is_shown(row) or row["stage"] in tests}
    scores: Scores = defaultdict(list)
    for name in sorted(files):
        if (data.artifacts / name).is_file():
            frame = pd.read_parquet(data.artifacts / name, columns=["patient_id", "modality", "score"])
            for patient, modality, score in zip(*(frame[column].tolist() for column in frame), strict=True):
                scores[name, str(patient), str(modality)].append(float(score))
    return scores


def _is_shown(row: dict[str, Any]) -> bool:
    return row["protocol"] == "patient" and row["architecture"] in PROPOSED


def _find_scores(row: dict[str, Any], scores: Scores) -> list[float]:
    return scores.get((row["source"], str(row["patient_id"]), str(row["modality"])), [])


def build_panels(data: ReportData, scores: Scores, threshold: float) -> dict[str, list[Panel]]:
    """By stage: a strip plot for each proposed network and modality; the tests on patients set aside come first."""
    plots: dict[tuple[str, str, str, str], Records] = {}
    for row in data.tables["patients"]:
        if _is_shown(row) and _find_scores(row, scores):
            plots.setdefault((row["stage"], row["architecture"], row["images"], row["modality"]), []).append(row)

    def order(key: tuple[str, str, str, str]) -> tuple[Any, ...]:
        return data.stages.names.index(key[0]), order_networks(key[1:3]), [*MODALITIES].index(key[3])

    panels: dict[str, list[Panel]] = {}
    for key in sorted(plots, key=order):
        panels.setdefault(key[0], []).append(_panel(key, plots[key], scores, threshold))
    folds = data.stages.select("folds")
    return dict(sorted(panels.items(), key=lambda entry: entry[0] in folds))


def _panel(key: tuple[str, str, str, str], rows: Records, scores: Scores, threshold: float) -> Panel:
    stage, architecture, images, modality = key
    name = name_network(architecture, images)
    title = name if images == modality else f"{name}: {modality.upper()} images"
    strips = [
        Strip(
            str(row["patient_id"]),
            int(row["target"]),
            _find_scores(row, scores),
            f"{row['correct']:.0f} of {row['images_n']:.0f}",
        )
        for row in sorted(rows, key=lambda row: (row["target"], row["score"], str(row["patient_id"])))
    ]
    description = (
        f"{title}, stage {stage_number(stage)}: scores of {len(strips)} patients, one line each; "
        f"{sum(row['correct'] for row in rows):.0f} of {sum(row['images_n'] for row in rows):.0f} images right"
    )
    return Panel(title, [draw_strips(description, strips, threshold)], [], [rows[0]["source"]])


def list_patients(stage: Stage, data: ReportData, scores: Scores, threshold: float) -> Records:
    """Each patient of a patient-based test under each network, with a strip plot of the scores."""
    rows = [row for row in data.tables["patients"] if row["stage"] == stage]
    rows.sort(key=lambda row: ([*MODALITIES].index(row["modality"]), row["target"], str(row["patient_id"])))
    return [
        row
        | {"group": CLASS_NAMES[int(row["target"])], "strip": _draw_patient(row, _find_scores(row, scores), threshold)}
        for row in rows
    ]


def _draw_patient(row: dict[str, Any], scores: list[float], threshold: float) -> Markup | None:
    name = name_network(row["architecture"], row["images"])
    text = f"{name}: {row['correct']:.0f} of {row['images_n']:.0f} images right, mean score {row['score']:.2f}"
    return draw_strip(scores, threshold, int(row["target"]), text) if scores else None


def list_levels(data: ReportData) -> Records:
    """The patient protocol's jobs with each patient counted once, by the mean score."""
    order = sorted(data.index, key=lambda key: (key[0], order_networks((key[1], key[2]))))
    jobs = [data.index[key] for key in order if (key[3], key[5]) == ("patient", "patient")]
    return [metrics["accuracy"] | {"metrics": metrics} for metrics in jobs]


@dataclass(frozen=True)
class Strip:
    """One patient of a strip plot: the scores of the images, and a note at the end of the line."""

    label: str
    target: int
    scores: Sequence[float]
    note: str


def draw_strip(scores: Sequence[float], threshold: float, target: int, description: str) -> Markup:
    """The scores of one patient between 0 and 1, with the threshold, for a cell of a table."""
    marks = "".join(f"M{100 * score:.1f} 4v12" for score in scores)
    parts = [
        '<path class="base" d="M0 10H100"/>',
        f'<path class="cut" d="M{100 * threshold:.1f} 0v20"/>',
        f'<path class="marks c-{CLASS_NAMES[target]}" d="{marks}"/>',
    ]
    return make_svg("strip", 100, 20, description, parts, 'preserveAspectRatio="none" ')


def draw_strips(description: str, strips: Sequence[Strip], threshold: float) -> Markup:
    """A line per patient: a mark for each image, a ring at the mean, the threshold dashed."""
    named = len(strips) <= NAMED
    pitch, left, right, top = (15 if named else 5.5), (74 if named else 20), SIZE[0] - 60, 16
    floor = top + pitch * len(strips)

    def across(score: float) -> float:
        return left + score * (right - left)

    parts: list[str] = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="tick" d="M{across(tick):.1f} {floor:.1f}v4"/>')
        parts.append(draw_text(across(tick), floor + 16, f"{tick:g}"))
    parts.append(f'<path class="line cut" d="M{across(threshold):.1f} {top - 6}V{floor:.1f}"/>')
    parts.append(f'<path class="tick" d="M{left} {floor:.1f}H{right}"/>')
    parts.append(draw_text((left + right) / 2, floor + 31, "score", kind="axis"))
    for row, strip in enumerate(strips):
        parts += _draw_row(strip, top + pitch * (row + 0.5), pitch, across, named=named)
    return make_svg("chart strips", SIZE[0], floor + 34, description, parts)


def _draw_row(strip: Strip, level: float, pitch: float, across: Callable[[float], float], *, named: bool) -> list[str]:
    kind, half = f"c-{CLASS_NAMES[strip.target]}", pitch * 0.36
    marks = "".join(f"M{across(score):.1f} {level - half:.1f}v{2 * half:.1f}" for score in strip.scores)
    mean = across(sum(strip.scores) / len(strip.scores))
    parts = [
        f'<path class="row" d="M{across(0):.1f} {level:.1f}H{across(1):.1f}"/>',
        f'<path class="marks {kind}" d="{marks}"/>',
        f'<circle class="mean {kind}" cx="{mean:.1f}" cy="{level:.1f}" r="{min(3.2, 0.42 * pitch):.1f}"/>',
    ]
    if named:
        label = strip.label if len(strip.label) <= 11 else f"{strip.label[:10]}…"
        parts += [
            draw_text(across(0) - 8, level + 4, label, "end"),
            draw_text(across(1) + 8, level + 4, strip.note, "start"),
        ]
    return parts
