"""The first lines of the page: a reader's questions, each answered in sentences computed from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import Validation
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.sections.headline import BALANCED, judge_claims, list_networks
from osteo_models.report.sections.stages import build_stages
from osteo_models.report.wording import (
    is_number,
    name_network,
    name_split,
    name_stages,
    write_difference_interval,
    write_metric,
    write_points,
    write_signed,
)

WHERE: Final[dict[Validation, str]] = {
    "holdout": "On the hold-out of close ages",
    "folds": "With whole patients left out",
    "patient_test": "On the patient-based test",
}


@dataclass(frozen=True)
class Verdict:
    """A question with its answer (yes, partly, no or missing); `link` is the anchor of the figures behind it."""

    question: str
    answer: str
    sentences: list[str]
    link: str


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    verdicts = [
        Verdict("Does it reproduce the paper's figures and claims?", *judge_claims(data), "headline"),
        judge_optimism(data.tables["image_vs_patient"], data.stages),
        judge_shortcuts(data.tables["beyond"], data.stages),
        judge_leaks(data.tables["shared"], data.tables["duplicates"], data.stages),
        judge_gate(data.versions),
        judge_gaps(data),
    ]
    return {"verdicts": verdicts, "synthetic": data.run.synthetic}


def _answer(held: int, total: int) -> str:
    return "yes" if held == total else ("partly" if held else "no")


def judge_optimism(rows: Records, stages: StageTable) -> Verdict:
    """How much higher the proposed networks score under the image protocol."""
    question, networks = "Do folds of single images overestimate performance?", list_networks(stages)
    known = [
        row
        for row in rows
        if row["metric"] == BALANCED
        and (row["stage"], row["architecture"], row["images"]) in networks
        and is_number(row["difference"])
        and is_number(row["ci_low"])
    ]
    if not known:
        return Verdict(question, "missing", ["No proposed network ran under both protocols."], "optimism")
    above = sum(row["ci_low"] > 0 for row in known)
    parts = "; ".join(
        f"{name_network(row['architecture'], row['images'])} {write_points(row['difference'])} "
        f"({write_points(row['ci_low'])} to {write_points(row['ci_high'])})"
        for row in known
    )
    lead = f"{above} of {len(known)} proposed networks score higher by image folds, beyond chance."
    sentences = [lead, f"Balanced accuracy, in points: {parts}."]
    return Verdict(question, _answer(above, len(known)), sentences, "optimism")


def judge_shortcuts(rows: Records, stages: StageTable) -> Verdict:
    """Whether the proposed networks beat age alone on the same patients, first where ages are close."""
    question, networks = "Is it better than age alone?", list_networks(stages)
    compared = [
        row
        for row in rows
        if (row["predictor"], row["metric"]) == ("age", "roc_auc")
        and (row["stage"], row["architecture"], row["images"]) in networks
        and is_number(row["difference"])
    ]
    if not compared:
        return Verdict(question, "missing", ["Age alone was not compared."], "shortcuts-audit")
    compared.sort(key=lambda row: networks.index((row["stage"], row["architecture"], row["images"])))
    better = sum(is_number(row["ci_low"]) and row["ci_low"] > 0 for row in compared)
    sentences = [f"{better} of {len(compared)} proposed networks beat age alone on the same patients, beyond chance."]
    for validation, where in WHERE.items():
        parts = [_compare_with_age(row) for row in compared if row["stage"] in stages.select(validation)]
        if parts:
            sentences.append(f"{where}, by ROC AUC: {'; '.join(parts)}.")
    return Verdict(question, _answer(better, len(compared)), sentences, "shortcuts-audit")


def _compare_with_age(row: dict[str, Any]) -> str:
    """A model and age: both ROC AUCs, and the paired difference."""
    interval = write_difference_interval("roc_auc", row["ci_low"], row["ci_high"]) or "interval undefined"
    aucs = f"{write_metric('roc_auc', row['model'])} against {write_metric('roc_auc', row['shortcut'])}"
    name = name_network(row["architecture"], row["images"])
    return f"{name} {aucs}, {write_signed(row['difference'])} ({interval})"


def judge_leaks(shared: Records, duplicates: Records, stages: StageTable) -> Verdict:
    """Whether anything is on both sides of a split of whole patients."""
    question = "Are training and test apart?"

    def name(row: dict[str, Any]) -> str:
        return name_split(str(row["split"]), stages).capitalize()

    apart = [row for row in shared if row["split"] != "fold_image" and is_number(row["units"])]
    if not apart:
        return Verdict(question, "missing", ["Splits were not audited."], "leaks")
    twins = [
        row for row in duplicates if row["split"] != "fold_image" and row["kind"] == "exact" and is_number(row["pairs"])
    ]
    leaks, doubled = [row for row in apart if row["units"] > 0], [row for row in twins if row["pairs"] > 0]
    sentences = [f"{name(row)}: {row['units']:.0f} {row['unit']} unit(s) on both sides." for row in leaks]
    if not leaks:
        sentences = ["No patient, study or series is on both sides of a split of whole patients."]
    sentences += [f"{name(row)}: {row['pairs']:.0f} pair(s) of equal images." for row in doubled]
    if twins and not doubled:
        sentences.append("No image occurs on both sides of them.")
    return Verdict(question, "no" if leaks or doubled else "yes", sentences, "leaks")


def judge_gate(versions: Records) -> Verdict:
    """Which versions passed the gate, and which rules stopped the others."""
    question = "Did the gate's rules hold?"
    if not versions:
        return Verdict(question, "missing", ["No model version is registered."], "versions")
    verdicts = [version.get("verdict") for version in versions]
    passed, undecided = verdicts.count("PROMOTE"), verdicts.count("NOT_ENOUGH_EVIDENCE")
    sentences = [f"{passed} of {len(versions)} versions pass."]
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
        ordered = sorted(stopped.items(), key=lambda entry: -entry[1])
        failures = "; ".join(f"{rule} ({number})" for rule, number in ordered)
        sentences.append(f"Rules that did not hold, with the number of versions: {failures}.")
    return Verdict(question, _answer(passed, len(versions)), sentences, "versions")


def judge_gaps(data: ReportData) -> Verdict:
    """Whether jobs, figures, tables or files are missing."""
    stages = {row.name: networks for row, networks in build_stages(data)}
    absent = {stage: sum(bool(network["missing"]) for network in networks) for stage, networks in stages.items()}
    whole = [name_stages([stage]) for stage, networks in stages.items() if absent[stage] == len(networks)]
    number, total = sum(absent.values()), sum(map(len, stages.values()))
    undefined = sum(not is_number(row["value"]) for row in data.summary)
    without_interval = sum(is_number(row["value"]) and not is_number(row["ci_low"]) for row in data.summary)
    empty = sorted(name for name, rows in data.tables.items() if not rows and name != "duplicate_pairs")
    files = [name for name in data.missing if not name.startswith("evaluation/")]
    sentences = []
    if whole:
        sentences.append(f"Not run at all: {', '.join(whole)}.")
    if number:
        sentences.append(
            f"{number} of {total} networks of tables 3–7 and 10 were not run; they are listed with the stages."
        )
    if undefined or without_interval:
        sentences.append(
            f"Of {len(data.summary):,} figures, {undefined} are undefined and {without_interval} have no interval: "
            "a class is missing, or the values do not vary."
        )
    if empty:
        sentences.append(f"Tables without a row: {', '.join(empty)}.")
    if files:
        sentences.append(f"Missing files: {', '.join(files)}.")
    answer = "yes" if sentences else "no"
    return Verdict(
        "Is anything missing?", answer, sentences or ["Nothing is missing, and every figure is defined."], "stages"
    )
