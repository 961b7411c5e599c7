"""A checklist after TRIPOD+AI and CLAIM, in our words, filled from facts: what is not there says "not reported".

Source:
    Collins et al., BMJ 2024;385:e078378 (TRIPOD+AI). Tejani et al., Radiol Artif Intell 2024;6:e240300 (CLAIM).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from osteo_models.report.report_data import Evidence, Facts
from osteo_models.report.wording import IMAGES, METHOD, is_number, name_stages

Fact = Callable[[Evidence, Facts], str]  # empty: not reported
State = Literal["reported", "not reported", "not applicable"]
NOT_APPLICABLE: Final = "Not applicable"


@dataclass(frozen=True)
class Item:
    """Something that a reader of a study must be told; `link` is the section that tells it."""

    area: str
    wanted: str
    fact: Fact
    link: str = ""


@dataclass(frozen=True)
class Answer:
    """An item with what this page says of it."""

    area: str
    wanted: str
    state: State
    fact: str
    link: str


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    answers = [_answer(item, evidence, facts) for item in ITEMS]
    areas = list(dict.fromkeys(answer.area for answer in answers))
    return {
        "areas": {area: [answer for answer in answers if answer.area == area] for area in areas},
        "reported": sum(answer.state == "reported" for answer in answers),
        "total": len(answers),
    }


def _answer(item: Item, evidence: Evidence, facts: Facts) -> Answer:
    found = item.fact(evidence, facts)
    state: State = "reported" if found else "not reported"
    if found.startswith(NOT_APPLICABLE):
        state = "not applicable"
    return Answer(item.area, item.wanted, state, found, item.link if found else "")


def _not_reported(evidence: Evidence, facts: Facts) -> str:
    return ""


def _tests(evidence: Evidence, facts: Facts) -> str:
    apart = evidence.stages.select("holdout", "patient_test")
    run = any(row["stage"] in apart for row in evidence.summary)
    return f"{name_stages(apart).capitalize()}." if run else ""


def _says(text: str) -> Fact:
    return lambda evidence, facts: text


def _where(table: str, text: str) -> Fact:
    """The text where a table of artifacts/evaluation has rows."""
    return lambda evidence, facts: text if evidence.tables[table] else ""


def _source(evidence: Evidence, facts: Facts) -> str:
    if facts.synthetic:
        seed = facts.param("data.synthetic.seed")
        return f"Synthetic: a phantom of the spine, written as DICOM{f', seed {seed}' if seed is not None else ''}."
    return ""


def _no_hospital(evidence: Evidence, facts: Facts) -> str:
    return f"{NOT_APPLICABLE}: no person was examined, the cohort is synthetic." if facts.synthetic else ""


def _eligibility(evidence: Evidence, facts: Facts) -> str:
    if not evidence.selection:
        return ""
    steps = max(len(found) for found in evidence.selection.values())
    return f"Rule by rule with the numbers left, up to {steps} steps for each class and modality."


def _outcome(evidence: Evidence, facts: Facts) -> str:
    below = facts.param("cohort.t_score_below")
    return f"Mean T-score of L1–L4 below {below:g} by DXA; controls have no DXA." if is_number(below) else ""


def _timing(evidence: Evidence, facts: Facts) -> str:
    days = facts.param("cohort.imaging_within_days")
    return f"Imaged within {days} days of the DXA." if is_number(days) else ""


def _preparation(evidence: Evidence, facts: Facts) -> str:
    crop = facts.param("prepare.crop_mm")
    if not crop:
        return ""
    return f"Crop of {crop[0]:g} x {crop[1]:g} mm, 80 x 60 pixels of 8 bits; windows in params.yaml."


def _scanners(evidence: Evidence, facts: Facts) -> str:
    names = {str(row["group"]) for row in evidence.tables["groups"] if row["by"] == "scanner"}
    return f"{len(names)} scanner(s), told apart in the audits." if names else ""


def _splits(evidence: Evidence, facts: Facts) -> str:
    if not evidence.splits:
        return ""
    held = len({row["patient_id"] for row in evidence.splits if row["holdout"]})
    tested = len({row["patient_id"] for row in evidence.splits if row["patient_test"]})
    return f"Hold-out of {held}, patient-based test of {tested} whole patients; folds by patient and by image."


def _recipe(evidence: Evidence, facts: Facts) -> str:
    rate, batch = facts.param("experiments.learning_rate"), facts.param("experiments.batch_size")
    epochs = sorted({int(job["epochs"]) for job in evidence.jobs})
    if rate is None or not epochs:
        return ""
    return f"Adam, learning rate {rate:g}, batches of {batch}, {' or '.join(map(str, epochs))} epochs, no augmentation."


def _networks(evidence: Evidence, facts: Facts) -> str:
    names = {job["architecture"] for job in evidence.jobs}
    return f"{len(names)} architecture(s) with parameters and costs; settings in params.yaml." if names else ""


def _search(evidence: Evidence, facts: Facts) -> str:
    number = evidence.search.summary.get("candidates")
    return f"{number} candidates on the MRI development set, winner estimated again." if number else ""


def _intervals(evidence: Evidence, facts: Facts) -> str:
    return f"95 %, {METHOD}" if evidence.summary else ""


def _threshold(evidence: Evidence, facts: Facts) -> str:
    threshold = facts.param("evaluate.threshold")
    chosen = "; one chosen on training folds beside it" if evidence.tables["chosen"] else ""
    return f"{threshold:g}, fixed beforehand{chosen}." if is_number(threshold) else ""


def _balance(evidence: Evidence, facts: Facts) -> str:
    counts = [sum(row["target"] == target for row in evidence.images) for target in (0, 1)]
    return f"{counts[0]:,} control and {counts[1]:,} osteoporosis images; nothing is reweighted." if any(counts) else ""


def _people(evidence: Evidence, facts: Facts) -> str:
    people = {row["patient_id"] for row in evidence.images}
    return f"{len(people)} people by class and modality: sex, age, images." if people else ""


def _cases(evidence: Evidence, facts: Facts) -> str:
    cases = {row["image_id"] for row in evidence.explanations.cases}
    return f"Grad-CAM++ and SmoothGrad of {len(cases)} images, with a randomisation check." if cases else ""


def _errors(evidence: Evidence, facts: Facts) -> str:
    worst = {row["image_id"] for row in evidence.explanations.cases if row["kind"] == "worst_error"}
    return f"{len(worst)} of the worst errors, each with its maps." if worst else ""


def _data(evidence: Evidence, facts: Facts) -> str:
    digest = next((value for name, value in facts.provenance.items() if "md5" in name.lower()), "")
    return f"Under DVC, md5 {digest}." if digest else ""


def _code(evidence: Evidence, facts: Facts) -> str:
    commit = facts.provenance.get("git.commit", "")
    return f"Commit {commit[:12]}, licence Apache-2.0." if commit else ""


def _models(evidence: Evidence, facts: Facts) -> str:
    return f"{len(evidence.versions)} registered version(s) with weights and card." if evidence.versions else ""


def _sets(evidence: Evidence, facts: Facts) -> str:
    used = [IMAGES[images] for images in IMAGES if any(row["images"] == images for row in evidence.summary)]
    return f"Sagittal lumbar slices: {', '.join(used)}." if used else ""


ITEMS: Final = (
    Item("Purpose", "What is predicted, from what", _sets, "stages"),
    Item("Purpose", "Summary of the findings", _says("Verdict lines, computed from the tables."), "verdicts"),
    Item("Purpose", "Clinical background and intended use", _not_reported),
    Item("Data", "Where the data comes from", _source, "cohort"),
    Item("Data", "Centres, setting and dates", _no_hospital, "cohort"),
    Item("Data", "Who was included and who left out", _eligibility, "cohort"),
    Item("Data", "Outcome and how it was determined", _outcome, "cohort"),
    Item("Data", "Time between image and outcome", _timing, "cohort"),
    Item("Data", "Whether assessors were blinded", _not_reported),
    Item("Data", "Scanners and acquisition", _scanners, "subgroups"),
    Item("Data", "Preparation of the images", _preparation, "provenance"),
    Item("Data", "De-identification", _says("Pseudonyms only; names and identifiers are not read."), "provenance"),
    Item("Data", "Missing data and how it was handled", _not_reported),
    Item("Data", "How the sample size was chosen", _not_reported),
    Item("Data", "Ethics approval and consent", _no_hospital, "cohort"),
    Item("Methods", "How the data was split, at which level", _splits, "cohort"),
    Item(
        "Methods",
        "Leaks between training and test",
        _where("shared", "Patients, studies, series, equal images."),
        "leaks",
    ),
    Item("Methods", "Networks and their size", _networks, "costs"),
    Item("Methods", "Training recipe", _recipe, "learning"),
    Item("Methods", "Choice of architecture and settings", _search, "search"),
    Item("Methods", "Class balance", _balance, "cohort"),
    Item("Methods", "Decision threshold", _threshold, "stages"),
    Item("Methods", "Uncertainty of the figures", _intervals, "stages"),
    Item("Results", "Flow of people and images", _eligibility, "cohort"),
    Item("Results", "Characteristics of the groups", _people, "cohort"),
    Item(
        "Results", "Performance with intervals and counts", _where("summary", "All stages, both protocols."), "stages"
    ),
    Item("Results", "Performance on people held out", _tests, "stages"),
    Item("Results", "Calibration", _where("calibration", "Curves, slope, intercept, Brier score."), "curves"),
    Item(
        "Results",
        "Simpler predictors beside the model",
        _where("shortcuts", "Age, sex, header alone."),
        "shortcuts-audit",
    ),
    Item("Results", "Performance by subgroup", _where("groups", "Sex, age band, scanner, modality."), "subgroups"),
    Item("Results", "Explanations", _cases, "explanations"),
    Item("Results", "Analysis of errors", _errors, "explanations"),
    Item("Results", "Validation on data of another source", _not_reported),
    Item("Use", "Limits", _where("image_vs_patient", "Age as a shortcut, optimism of image folds."), "audits"),
    Item("Use", "Effect on decisions or outcomes of care", _not_reported),
    Item("Use", "Updating and monitoring", _not_reported),
    Item("Openness", "Protocol or registration of the study", _not_reported),
    Item("Openness", "Data", _data, "provenance"),
    Item("Openness", "Code", _code, "provenance"),
    Item("Openness", "Models", _models, "versions"),
    Item("Openness", "Involvement of patients and the public", _not_reported),
    Item("Openness", "Funding and conflicts of interest", _not_reported),
)
