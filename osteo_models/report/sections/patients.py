"""Patient by patient: strip plots of the scores, each patient counted once, best and worst patient (table 10)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import pandas as pd

from osteo_models.core.stage_table import StageRow, StageTable
from osteo_models.core.terms import CLASS_NAMES, MODALITIES, Stage, stage_number
from osteo_models.evaluation.paper import PATIENT_TEST_TABLE
from osteo_models.report.charts import Panel
from osteo_models.report.html_table import Cell, Table, count, key_of, make_table, measure, number, source, word
from osteo_models.report.report_data import Evidence, Facts, Records, read_paper
from osteo_models.report.sections.stages import index_summary, order_networks, sort_jobs
from osteo_models.report.strip_plots import Strip, draw_strip, draw_strips
from osteo_models.report.wording import METRICS, PROPOSED, is_number, name_network, name_stages, write_interval

Scores = dict[tuple[str, str, str], list[float]]  # by predictions file, patient and modality
PROPORTIONS: Final = ("accuracy", "sensitivity", "specificity")


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    scores = _read_scores(evidence)
    given = facts.param("evaluate.threshold")
    threshold = float(given) if is_number(given) else 0.5
    return {
        "panels": build_panels(evidence, scores, threshold),
        "tests": [(row, build_test(row.name, evidence, scores, threshold)) for row in _list_tests(evidence)],
        "printed": name_stages(evidence.stages.find_paper_table(PATIENT_TEST_TABLE)),
        "levels": build_levels(evidence),
        "extremes": build_extremes(evidence),
        "totals": build_totals(evidence.tables["table10_totals"], evidence.stages),
        "threshold": threshold,
    }


def _read_scores(evidence: Evidence) -> Scores:
    """The scores behind each patient's mean, of the proposed networks with whole patients left out."""
    tests = evidence.stages.select("patient_test")
    wanted = {row["source"] for row in evidence.tables["patients"] if _is_shown(row) or row["stage"] in tests}
    found: Scores = defaultdict(list)
    for name in sorted(wanted):
        path = evidence.artifacts / name
        if path.is_file():
            frame = pd.read_parquet(path, columns=["patient_id", "modality", "score"])
            columns = (frame[name].tolist() for name in ("patient_id", "modality", "score"))
            for patient, modality, score in zip(*columns, strict=True):
                found[name, str(patient), str(modality)].append(float(score))
    return found


def _is_shown(row: dict[str, Any]) -> bool:
    return row["protocol"] == "patient" and row["architecture"] in PROPOSED


def build_panels(evidence: Evidence, scores: Scores, threshold: float) -> dict[str, list[Panel]]:
    """By stage: a strip plot for each proposed network and modality."""
    plots: dict[tuple[str, str, str, str], Records] = {}
    for row in filter(_is_shown, evidence.tables["patients"]):
        if scores.get((row["source"], str(row["patient_id"]), str(row["modality"]))):
            key = (row["stage"], row["architecture"], row["images"], row["modality"])
            plots.setdefault(key, []).append(row)
    found: dict[str, list[Panel]] = {}
    order = evidence.stages.names.index
    for key in sorted(
        plots, key=lambda one: (order(one[0]), order_networks((one[1], one[2])), list(MODALITIES).index(one[3]))
    ):  # type: ignore[arg-type]
        found.setdefault(key[0], []).append(_panel(key, plots[key], scores, threshold))
    folds = evidence.stages.select("folds")
    return dict(sorted(found.items(), key=lambda item: item[0] in folds))  # the tests on patients set aside first


def _panel(key: tuple[str, str, str, str], rows: Records, scores: Scores, threshold: float) -> Panel:
    stage, architecture, images, modality = key
    name = name_network(architecture, images)
    title = name if images == modality else f"{name}: {modality.upper()} images"
    ordered = sorted(rows, key=lambda row: (row["target"], row["score"], str(row["patient_id"])))
    strips = [
        Strip(
            str(row["patient_id"]),
            int(row["target"]),
            scores[row["source"], str(row["patient_id"]), str(row["modality"])],
            f"{row['correct']:.0f} of {row['images_n']:.0f}",
        )
        for row in ordered
    ]
    right = sum(row["correct"] for row in rows)
    told = (
        f"{title}, stage {stage_number(stage)}: scores of {len(strips)} patients, one line each; "
        f"{right:.0f} of {sum(row['images_n'] for row in rows):.0f} images right"
    )
    return Panel(title, [draw_strips(told, strips, threshold)], [], [rows[0]["source"]])


def _list_tests(evidence: Evidence) -> list[StageRow]:
    return [row for row in evidence.stages if row.validation == "patient_test"]


def build_test(stage: Stage, evidence: Evidence, scores: Scores, threshold: float) -> Table:
    """Each patient of a patient-based test under each network."""
    rows = [row for row in evidence.tables["patients"] if row["stage"] == stage]
    rows.sort(key=lambda row: (list(MODALITIES).index(row["modality"]), row["target"], str(row["patient_id"])))
    return make_table(
        f"{stage}-patients",
        f"Stage {stage_number(stage)}, patient by patient.",
        (
            "Patient",
            "<Images",
            "<Class",
            "<Network",
            "Right, %",
            "Right",
            "Images",
            "Mean score",
            "<Scores",
            "<Predictions",
        ),
        [_patient_cells(row, scores, threshold) for row in rows],
    )


def _patient_cells(row: dict[str, Any], scores: Scores, threshold: float) -> list[Cell]:
    patient, modality, target = str(row["patient_id"]), str(row["modality"]), int(row["target"])
    name = name_network(row["architecture"], row["images"])
    told = f"{name}: {row['correct']:.0f} of {row['images_n']:.0f} images right, mean score {row['score']:.2f}"
    marks = scores.get((row["source"], patient, modality), [])
    return [
        word(patient),
        word(modality.upper()),
        word(CLASS_NAMES[target]),
        word(name),
        measure("accuracy", row["accuracy"], row["wilson_low"], row["wilson_high"]),
        count(row["correct"]),
        count(row["images_n"]),
        number(row["score"], 2),
        Cell("–", key=key_of(row["score"]), drawing=draw_strip(marks, threshold, target, told)) if marks else Cell("–"),
        source(row["source"]),
    ]


def build_levels(evidence: Evidence) -> Table:
    """The patient protocol's jobs with each patient counted once, by the mean score."""
    rows = []
    names = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc")
    index = index_summary(evidence.summary)
    for key in sorted(index, key=lambda one: (one[0], order_networks((one[1], one[2])))):
        stage, architecture, images, protocol, _, level = key
        if (protocol, level) != ("patient", "patient"):
            continue
        metrics = index[key]
        cells = [word(name_network(architecture, images)), word(stage_number(stage))]
        for name in names:
            one = metrics[name]
            cells.append(measure(name, one["value"], one["ci_low"], one["ci_high"]))
        any_metric = metrics["accuracy"]
        rows.append([*cells, count(any_metric["n_patients"]), source(any_metric["source"])])
    columns = ("Network", "Stage", *(METRICS[name] for name in names), "Patients", "<Predictions")
    return make_table("levels", "Each patient once, by the mean score of the images.", columns, rows)


def build_extremes(evidence: Evidence) -> Table:
    """Table 10: best and worst patient of each class, beside the paper's."""
    paper = {(row["architecture"], row["images"], row["group"], row["which"]): row for row in read_paper("extremes")}
    rows = []
    for row in sort_jobs(evidence.tables["table10"]):
        printed = paper.get((row["architecture"], row["images"], row["group"], row["which"]), {})
        shown, low, high = (printed.get(name) for name in ("accuracy", "low", "high"))
        interval = f"{low:.1f}–{high:.1f}" if is_number(low) and is_number(high) else ""
        rows.append(
            [
                word(name_network(row["architecture"], row["images"])),
                word(row["group"]),
                word({"minimum": "worst", "maximum": "best"}.get(row["which"], row["which"])),
                word(row["patient_id"]),
                measure("accuracy", row["accuracy"], row["wilson_low"], row["wilson_high"]),
                count(row["n"]),
                Cell(f"{shown:.2f}", interval, float(shown)) if is_number(shown) else Cell("–"),
                source(row["source"]),
            ]
        )
    columns = ("Network", "<Class", "<Which", "<Patient", "Right images, %", "Images", "Paper, %", "<Predictions")
    return make_table("extremes", "Table 10. Best and worst patient of each class.", columns, rows)


def build_totals(rows: Records, stages: StageTable) -> Table:
    """Table 10: accuracy, sensitivity and specificity over all patients of its stage, beside the paper's."""
    found = []
    for row in sort_jobs(rows):
        found.append(
            [
                word(name_network(row["architecture"], row["images"])),
                word(str(row["metric"]).capitalize()),
                measure("accuracy", row["value"], row["ci_low"], row["ci_high"]),
                Cell(write_interval("accuracy", row["wilson_low"], row["wilson_high"]) or "–"),
                measure("accuracy", row["paper_value"], row["paper_low"], row["paper_high"])
                if is_number(row["paper_value"])
                else Cell("–"),
                count(row["n"]),
                count(row["n_patients"]),
                source(row["source"]),
            ]
        )
    columns = ("Network", "<Metric", "Ours, %", "Wilson's interval", "Paper, %", "Images", "Patients", "<Predictions")
    of_stage = name_stages(stages.find_paper_table(PATIENT_TEST_TABLE))
    return make_table("totals", f"Table 10. Totals over the patients of {of_stage}.", columns, found)
