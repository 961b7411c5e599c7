"""A checklist after TRIPOD+AI and CLAIM, filled from the artifacts, and the provenance of the numbers.

Source:
    Collins et al., BMJ 2024;385:e078378 (TRIPOD+AI). Tejani et al., Radiol Artif Intell 2024;6:e240300 (CLAIM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osteo_models.core.files import hash_file
from osteo_models.report.report_data import Records, ReportData, flatten_params
from osteo_models.report.wording import IMAGES, METHOD, is_number, name_stages

NOT_APPLICABLE: Final = "Not applicable"
# By area: what a report of a study must contain, with the section of this page that contains it.
ITEMS: Final[dict[str, dict[str, str]]] = {
    "Purpose": {
        "What is predicted, from what": "stages",
        "Summary of the findings": "verdicts",
        "Clinical background and intended use": "",
    },
    "Data": {
        "Where the data comes from": "cohort",
        "Centres, setting and dates": "cohort",
        "Inclusion and exclusion criteria": "cohort",
        "Outcome and how it was determined": "cohort",
        "Time between image and outcome": "cohort",
        "Whether assessors were blinded": "",
        "Scanners and acquisition": "subgroups",
        "Preparation of the images": "provenance",
        "De-identification": "provenance",
        "Missing data and its handling": "",
        "How the sample size was chosen": "",
        "Ethics approval and consent": "cohort",
    },
    "Methods": {
        "How the data was split, at which level": "cohort",
        "Leaks between training and test": "leaks",
        "Networks and their size": "costs",
        "Training recipe": "learning",
        "Choice of architecture and settings": "search",
        "Class balance": "cohort",
        "Decision threshold": "stages",
        "Uncertainty of the figures": "stages",
    },
    "Results": {
        "Flow of people and images": "cohort",
        "Characteristics of the groups": "cohort",
        "Performance with intervals and counts": "stages",
        "Performance on people held out": "stages",
        "Calibration": "curves",
        "Simpler predictors than the model": "shortcuts-audit",
        "Performance by subgroup": "subgroups",
        "Explanations": "explanations",
        "Analysis of errors": "explanations",
        "Validation on data of another source": "",
    },
    "Use": {
        "Limits": "audits",
        "Effect on decisions or outcomes of care": "",
        "Updating and monitoring": "",
    },
    "Openness": {
        "Protocol or registration of the study": "",
        "Data": "provenance",
        "Code": "provenance",
        "Models": "versions",
        "Involvement of patients and the public": "",
        "Funding and conflicts of interest": "",
    },
}
SEEDS: Final = {
    "data.synthetic.seed": "synthetic cohort",
    "splits.seed": "splits",
    "experiments.seed": "training",
    "search.seed": "architecture search",
    "evaluate.seed": "pairs of the audits",
}


@dataclass(frozen=True)
class Answer:
    """An item of the checklist; `fact` is empty when it is not reported."""

    item: str
    fact: str
    link: str

    @property
    def state(self) -> str:
        """reported, not reported or not applicable."""
        if self.fact.startswith(NOT_APPLICABLE):
            return "not applicable"
        return "reported" if self.fact else "not reported"


def build(data: ReportData) -> dict[str, Any]:
    """The content of the checklist."""
    facts = collect_facts(data)
    areas = {
        area: [Answer(item, facts.get(item, ""), link if facts.get(item) else "") for item, link in items.items()]
        for area, items in ITEMS.items()
    }
    answers = [answer for area_answers in areas.values() for answer in area_answers]
    return {"areas": areas, "reported": sum(answer.state == "reported" for answer in answers), "total": len(answers)}


def collect_facts(data: ReportData) -> dict[str, str]:
    """What the artifacts say about the items; an item that is absent is not reported."""
    return _describe_data(data) | _describe_methods(data) | _describe_results(data)


def _describe_data(data: ReportData) -> dict[str, str]:
    param, images = data.run.param, data.images
    facts = {"De-identification": "Pseudonyms only; names and identifiers are not read."}
    if data.run.synthetic:
        seed = param("data.synthetic.seed")
        with_seed = f", seed {seed}" if seed is not None else ""
        facts["Where the data comes from"] = f"Synthetic: a phantom of the spine, written as DICOM{with_seed}."
        no_person = f"{NOT_APPLICABLE}: no person was examined, the cohort is synthetic."
        facts |= {"Centres, setting and dates": no_person, "Ethics approval and consent": no_person}
    if data.selection:
        steps = max(len(rules) for rules in data.selection.values())
        flow = f"Rule by rule with the numbers left, up to {steps} steps for each class and modality."
        facts |= {"Inclusion and exclusion criteria": flow, "Flow of people and images": flow}
    if is_number(below := param("cohort.t_score_below")):
        facts["Outcome and how it was determined"] = (
            f"Mean T-score of L1–L4 below {below:g} by DXA; controls have no DXA."
        )
    if is_number(days := param("cohort.imaging_within_days")):
        facts["Time between image and outcome"] = f"Imaged within {days} days of the DXA."
    if crop := param("prepare.crop_mm"):
        pixels = "80 x 60 pixels of 8 bits; windows in params.yaml"
        facts["Preparation of the images"] = f"Crop of {crop[0]:g} x {crop[1]:g} mm, {pixels}."
    if scanners := {str(row["group"]) for row in data.tables["groups"] if row["by"] == "scanner"}:
        facts["Scanners and acquisition"] = f"{len(scanners)} scanner(s), reported separately in the audits."
    if images:
        control, osteoporosis = (sum(row["target"] == target for row in images) for target in (0, 1))
        balance = f"{control:,} control and {osteoporosis:,} osteoporosis images; nothing is reweighted."
        patients = len({row["patient_id"] for row in images})
        people = f"{patients} people by class and modality: sex, age, images."
        facts |= {"Class balance": balance, "Characteristics of the groups": people}
    return facts


def _describe_methods(data: ReportData) -> dict[str, str]:
    param, facts = data.run.param, {}
    if data.splits:
        held, tested = (
            len({row["patient_id"] for row in data.splits if row[column]}) for column in ("holdout", "patient_test")
        )
        facts["How the data was split, at which level"] = (
            f"Hold-out of {held}, patient-based test of {tested} whole patients; folds by patient and by image."
        )
    if data.tables["shared"]:
        facts["Leaks between training and test"] = "Patients, studies, series, equal images."
    if architectures := {job["architecture"] for job in data.jobs}:
        facts["Networks and their size"] = (
            f"{len(architectures)} architecture(s) with parameters and costs; settings in params.yaml."
        )
    rate, epochs = param("experiments.learning_rate"), sorted({int(job["epochs"]) for job in data.jobs})
    if rate is not None and epochs:
        recipe = f"Adam, learning rate {rate:g}, batches of {param('experiments.batch_size')}"
        facts["Training recipe"] = f"{recipe}, {' or '.join(map(str, epochs))} epochs, no augmentation."
    if candidates := data.search.get("candidates"):
        facts["Choice of architecture and settings"] = (
            f"{candidates} candidates on the MRI development set, winner re-estimated."
        )
    if is_number(threshold := param("evaluate.threshold")):
        chosen = "; a second one is chosen on training folds" if data.tables["chosen"] else ""
        facts["Decision threshold"] = f"{threshold:g}, fixed beforehand{chosen}."
    return facts


def _describe_results(data: ReportData) -> dict[str, str]:
    facts = {"Summary of the findings": "Verdict lines, computed from the tables."}
    used = [IMAGES[images] for images in IMAGES if any(row["images"] == images for row in data.summary)]
    if used:
        facts["What is predicted, from what"] = f"Sagittal lumbar slices: {', '.join(used)}."
        facts["Uncertainty of the figures"] = f"95 %, {METHOD}"
    apart = data.stages.select("holdout", "patient_test")
    if any(row["stage"] in apart for row in data.summary):
        facts["Performance on people held out"] = f"{name_stages(apart).capitalize()}."
    of_tables = {
        "summary": ("Performance with intervals and counts", "All stages, both protocols."),
        "calibration": ("Calibration", "Curves, slope, intercept, Brier score."),
        "shortcuts": ("Simpler predictors than the model", "Age, sex, header alone."),
        "groups": ("Performance by subgroup", "Sex, age band, scanner, modality."),
        "image_vs_patient": ("Limits", "Age as a shortcut, optimism of image folds."),
    }
    facts |= {item: fact for table, (item, fact) in of_tables.items() if data.tables[table]}
    if cases := {row["image_id"] for row in data.explained}:
        facts["Explanations"] = f"Grad-CAM++ and SmoothGrad of {len(cases)} images, with a randomisation check."
    if worst := {row["image_id"] for row in data.explained if row["kind"] == "worst_error"}:
        facts["Analysis of errors"] = f"{len(worst)} of the worst errors, each with its maps."
    if digest := next((value for name, value in data.run.provenance.items() if "md5" in name.lower()), ""):
        facts["Data"] = f"Under DVC, md5 {digest}."
    if commit := data.run.provenance.get("git.commit", ""):
        facts["Code"] = f"Commit {commit[:12]}, licence Apache-2.0."
    if data.versions:
        facts["Models"] = f"{len(data.versions)} registered version(s) with weights and card."
    return facts


def build_provenance(data: ReportData) -> dict[str, Any]:
    """The content of the section on provenance: data, splits, code, seeds, predictions files, build times."""
    splits = data.artifacts / "splits" / "splits.csv"
    splits_hash = {"splits.csv (md5)": hash_file(splits, "md5")} if splits.is_file() else {}
    seeds = {label: data.run.param(path) for path, label in SEEDS.items()}
    return {
        "provenance": {**data.run.provenance, **splits_hash},
        "seeds": [(label, str(seed)) for label, seed in seeds.items() if seed is not None],
        "params": list(flatten_params(data.run.params)),
        "missing": data.missing,
        "files": list_files(data),
        "times": list_times(data.seconds),
    }


def list_files(data: ReportData) -> Records:
    """Every predictions file with its hash."""
    counts = {
        str(metrics["accuracy"]["source"]): metrics["accuracy"]
        for key, metrics in data.index.items()
        if key[4:] == ("all", "image")
    }
    paths = sorted(data.artifacts.glob("predictions/*/*.parquet"))
    files = {path.relative_to(data.artifacts).as_posix(): hash_file(path, "md5") for path in paths}
    unknown = {"n": None, "n_patients": None}
    return [{**counts.get(name, unknown), "name": name, "md5": digest} for name, digest in files.items()]


def list_times(seconds: dict[str, float]) -> list[tuple[str, float]]:
    """Seconds by section, without this last section and the writing of the file."""
    return [*seconds.items(), ("all of these", sum(seconds.values()))] if seconds else []
