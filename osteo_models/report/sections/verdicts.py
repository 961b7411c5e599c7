"""The first lines of the page: questions that a reader has, each answered in plain sentences from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import Validation
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.sections.headline import judge_claims, list_networks
from osteo_models.report.sections.stages import build_stage_tables
from osteo_models.report.wording import (
    is_number,
    name_network,
    name_split,
    name_stages,
    write_metric,
    write_points,
    write_signed,
)

Answer = Literal["yes", "partly", "no", "unclear", "missing"]
BALANCED: Final = "balanced_accuracy"
PLACES: Final[dict[Validation, str]] = {
    "holdout": "On the hold-out of close ages",
    "folds": "With whole patients left out",
    "patient_test": "On the patient-based test",
}


@dataclass(frozen=True)
class Verdict:
    """A question with its answer; `link` is the anchor of the figures behind it."""

    question: str
    answer: Answer
    sentences: list[str]
    link: str


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    answer, sentences = judge_claims(evidence)
    verdicts = [
        Verdict("Does it reproduce the paper's figures and claims?", answer, sentences, "headline"),
        judge_optimism(evidence.tables["image_vs_patient"], evidence.stages),
        judge_shortcuts(evidence.tables["beyond"], evidence.stages),
        judge_leaks(evidence.tables["shared"], evidence.tables["duplicates"], evidence.stages),
        judge_gate(evidence.versions),
        judge_gaps(evidence),
    ]
    return {"verdicts": verdicts, "synthetic": facts.synthetic}


def judge_optimism(rows: Records, stages: StageTable) -> Verdict:
    """By how much the image protocol flatters the proposed networks."""
    question = "Do folds of single images flatter?"
    networks = list_networks(stages)
    chosen = [
        row
        for row in rows
        if row["metric"] == BALANCED and (row["stage"], row["architecture"], row["images"]) in networks
    ]
    known = [row for row in chosen if is_number(row["difference"]) and is_number(row["ci_low"])]
    if not known:
        return Verdict(question, "missing", ["No proposed network ran under both protocols."], "optimism")
    above = [row for row in known if row["ci_low"] > 0]
    parts = "; ".join(
        f"{name_network(row['architecture'], row['images'])} {write_points(row['difference'])} "
        f"({write_points(row['ci_low'])} to {write_points(row['ci_high'])})"
        for row in known
    )
    told = f"{len(above)} of {len(known)} proposed networks score higher by image folds, beyond chance."
    answer: Answer = "yes" if len(above) == len(known) else ("partly" if above else "no")
    return Verdict(question, answer, [told, f"Balanced accuracy, in points: {parts}."], "optimism")


def judge_shortcuts(rows: Records, stages: StageTable) -> Verdict:
    """Whether the proposed networks beat age alone on the same patients, first where ages are close."""
    question = "Is it better than age alone?"
    networks = list_networks(stages)
    asked = [
        row
        for row in rows
        if (row["predictor"], row["metric"]) == ("age", "roc_auc")
        and (row["stage"], row["architecture"], row["images"]) in networks
        and is_number(row["difference"])
    ]
    if not asked:
        return Verdict(question, "missing", ["Age alone was not compared."], "shortcuts-audit")
    asked.sort(key=lambda row: networks.index((row["stage"], row["architecture"], row["images"])))
    better = [row for row in asked if is_number(row["ci_low"]) and row["ci_low"] > 0]
    lead = f"{len(better)} of {len(asked)} proposed networks beat age alone on the same patients, beyond chance."
    sentences = [lead]
    for validation, where in PLACES.items():
        parts = [_tell_beyond(row) for row in asked if row["stage"] in stages.select(validation)]
        if parts:
            sentences.append(f"{where}, by ROC AUC: {'; '.join(parts)}.")
    answer: Answer = "yes" if len(better) == len(asked) else ("partly" if better else "no")
    return Verdict(question, answer, sentences, "shortcuts-audit")


def _tell_beyond(row: dict[str, Any]) -> str:
    """A model beside age: both areas, and the paired difference."""
    known = is_number(row["ci_low"]) and is_number(row["ci_high"])
    interval = f"{write_signed(row['ci_low'])} to {write_signed(row['ci_high'])}" if known else "interval undefined"
    areas = f"{write_metric('roc_auc', row['model'])} against {write_metric('roc_auc', row['shortcut'])}"
    name = name_network(row["architecture"], row["images"])
    return f"{name} {areas}, {write_signed(row['difference'])} ({interval})"


def judge_leaks(shared: Records, duplicates: Records, stages: StageTable) -> Verdict:
    """Whether anything stands on both sides of a split of whole patients."""
    question = "Are training and test apart?"
    apart = [row for row in shared if row["split"] != "fold_image" and is_number(row["units"])]
    if not apart:
        return Verdict(question, "missing", ["Splits were not audited."], "leaks")
    leaks = [row for row in apart if row["units"] > 0]
    twins = [
        row for row in duplicates if row["split"] != "fold_image" and row["kind"] == "exact" and is_number(row["pairs"])
    ]
    doubled = [row for row in twins if row["pairs"] > 0]
    sentences = [
        f"{_split(row, stages)}: {row['units']:.0f} {row['unit']} unit(s) on both sides." for row in leaks
    ] or ["No patient, study or series stands on both sides of a split of whole patients."]
    sentences += [f"{_split(row, stages)}: {row['pairs']:.0f} pair(s) of equal images." for row in doubled]
    if twins and not doubled:
        sentences.append("No image is there twice across them.")
    return Verdict(question, "no" if leaks or doubled else "yes", sentences, "leaks")


def _split(row: dict[str, Any], stages: StageTable) -> str:
    return name_split(str(row["split"]), stages).capitalize()


def judge_gate(versions: Records) -> Verdict:
    """Which versions passed the gate, and which rules stopped the others."""
    question = "Did the gate's rules hold?"
    if not versions:
        return Verdict(question, "missing", ["No model version is registered."], "versions")
    passed = [version for version in versions if version.get("verdict") == "PROMOTE"]
    undecided = sum(version.get("verdict") == "NOT_ENOUGH_EVIDENCE" for version in versions)
    sentences = [f"{len(passed)} of {len(versions)} versions pass."]
    if undecided:
        sentences.append(f"{undecided} more could not be judged: not enough evidence.")
    champions = [f"{v['name']} version {v['version']}" for v in versions if "champion" in str(v.get("alias", ""))]
    sentences.append(f"Champion: {', '.join(champions)}." if champions else "There is no champion.")
    stopped: dict[str, int] = {}
    for version in versions:
        for rule in version.get("rules") or []:
            if not rule["passed"] and rule.get("applies", True) and not rule.get("waiver"):
                stopped[rule["rule"]] = stopped.get(rule["rule"], 0) + 1
    if stopped:
        listed = "; ".join(f"{rule} ({number})" for rule, number in sorted(stopped.items(), key=lambda item: -item[1]))
        sentences.append(f"Rules that did not hold, with the number of versions: {listed}.")
    answer: Answer = "yes" if len(passed) == len(versions) else ("partly" if passed else "no")
    return Verdict(question, answer, sentences, "versions")


def judge_gaps(evidence: Evidence) -> Verdict:
    """What is missing or undefined, so that nothing is taken for complete that is not."""
    tables = build_stage_tables(evidence)
    absent = {stage: [group.title for group in table.groups if group.missing] for stage, table in tables.items()}
    whole = [name_stages([stage]) for stage, table in tables.items() if len(absent[stage]) == len(table.groups)]
    number, total = sum(map(len, absent.values())), sum(len(table.groups) for table in tables.values())
    sentences = []
    if whole:
        sentences.append(f"Not run at all: {', '.join(whole)}.")
    if number:
        sentences.append(f"{number} of {total} networks of tables 3–7 and 10 were not run; the stages name them.")
    undefined = sum(not is_number(row["value"]) for row in evidence.summary)
    open_ended = sum(is_number(row["value"]) and not is_number(row["ci_low"]) for row in evidence.summary)
    if undefined or open_ended:
        sentences.append(
            f"Of {len(evidence.summary):,} figures, {undefined} are undefined and {open_ended} have no interval: "
            "a class or the spread is missing there."
        )
    empty = sorted(name for name, rows in evidence.tables.items() if not rows and name != "duplicate_pairs")
    if empty:
        sentences.append(f"Tables without a row: {', '.join(empty)}.")
    others = [name for name in evidence.missing if not name.startswith("evaluation/")]
    if others:
        sentences.append(f"Files that are not there: {', '.join(others)}.")
    complete = not sentences
    return Verdict(
        "Is anything missing?",
        "no" if complete else "yes",
        sentences or ["Everything is here, every figure is defined."],
        "stages",
    )
