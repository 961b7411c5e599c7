"""Who is in the study: the paper's inclusion and exclusion rules (figures 1 and 2), each a named pure function."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from osteo_models.core.errors import InputError
from osteo_models.core.params import Cohort
from osteo_models.core.terms import CLASS_NAMES, CONTROL, MODALITIES, OSTEOPOROSIS, Modality
from osteo_models.data.clinical import T_SCORES

ENDINGS = (".dcm", ".png", ".jpg")
FOLDER_NAME = "any characters but `/`; `osteo data import` takes every identifier"
Keep = Callable[[pd.DataFrame, Cohort, Modality], pd.Series]
Flow = dict[str, list[dict[str, str | int]]]


@dataclass(frozen=True)
class Rule:
    """One step of the selection: `keep` says which people stay."""

    name: str
    keep: Keep


def has_low_t_score(people: pd.DataFrame, cohort: Cohort, _: Modality) -> pd.Series:
    """Mean T-score of L1-L4 below the threshold; people without a DXA have none."""
    return people[list(T_SCORES)].mean(axis=1, skipna=False).round(6) < cohort.t_score_below


def has_no_excluded_finding(people: pd.DataFrame, cohort: Cohort, _: Modality) -> pd.Series:
    """No deformity, inflammation, tumour or surgery that changes the bone or its measurement."""
    return ~_has_any(people, cohort.excluded_findings)


def is_imaged_near_dxa(people: pd.DataFrame, cohort: Cohort, modality: Modality) -> pd.Series:
    """Imaged within the allowed days of the DXA, before or after."""
    return (people[f"{modality}_date"] - people["dxa_date"]).dt.days.abs() <= cohort.imaging_within_days


def is_of_control_age(people: pd.DataFrame, cohort: Cohort, _: Modality) -> pd.Series:
    """Aged within the controls' range, both ends included."""
    return people["age_years"].between(*cohort.control_age_years)


def is_not_postmenopausal(people: pd.DataFrame, _: Cohort, __: Modality) -> pd.Series:
    """Not past menopause."""
    return people["postmenopausal"] == 0


def has_no_secondary_cause(people: pd.DataFrame, cohort: Cohort, _: Modality) -> pd.Series:
    """No disease or steroid that causes osteoporosis by itself."""
    return ~_has_any(people, cohort.control_excluded_findings) & (people["glucocorticoids"] == 0)


def is_imaged(people: pd.DataFrame, _: Cohort, modality: Modality) -> pd.Series:
    """Imaged at all with this modality."""
    return people[f"{modality}_date"].notna()


STUDY_RULES = (
    Rule("mean T-score of L1-L4 below the threshold", has_low_t_score),
    Rule("no excluded finding", has_no_excluded_finding),
    Rule("imaged within the allowed days of the DXA", is_imaged_near_dxa),
)
CONTROL_RULES = (
    Rule("of the controls' age", is_of_control_age),
    Rule("not postmenopausal", is_not_postmenopausal),
    Rule("no excluded finding", has_no_excluded_finding),
    Rule("no secondary cause of osteoporosis", has_no_secondary_cause),
    Rule("imaged", is_imaged),
)

# Class, source in the clinical table, and rules of each group.
GROUPS = ((CONTROL, "control_candidate", CONTROL_RULES), (OSTEOPOROSIS, "dxa", STUDY_RULES))


def _has_any(people: pd.DataFrame, codes: Sequence[str]) -> pd.Series:
    unwanted = set(codes)
    return people["findings"].map(lambda text: not unwanted.isdisjoint(str(text).split(";")))


def select_people(clinical: pd.DataFrame, cohort: Cohort) -> tuple[pd.DataFrame, Flow]:
    """Apply the rules in order for each modality and class.

    Args:
        clinical: As `read_clinical` gives it.
        cohort: The section of params.yaml.

    Returns:
        People with patient_id, modality, target, age_years, sex (one row per person and modality), and the number
        left after each rule for each group, such as `mri_osteoporosis`.

    Raises:
        InputError: A group is empty, with the rule that left no patient.

    Source: figures 1 and 2 of the paper.
    """
    groups: list[pd.DataFrame] = []
    flow: Flow = {}
    for modality in MODALITIES:
        for target, source, rules in GROUPS:
            people = clinical[clinical["source"] == source]
            name = f"{modality}_{CLASS_NAMES[target]}"
            steps: list[dict[str, str | int]] = [{"rule": "examined", "left": len(people)}]
            for rule in rules:
                people = people[rule.keep(people, cohort, modality)]
                steps.append({"rule": rule.name, "left": len(people)})
            if people.empty:
                last = next(step["rule"] for step in steps if step["left"] == 0)
                raise InputError(f"no {name} is left after the rule {last!r}", where="clinical table")
            flow[name] = steps
            groups.append(people.assign(modality=modality, target=target))
    return pd.concat(groups)[["patient_id", "modality", "target", "age_years", "sex"]].reset_index(drop=True), flow


def list_images(people: pd.DataFrame, dicom: Path) -> pd.DataFrame:
    """The image files of the selected people: `<dicom>/<patient_id>/<modality>-<number>.dcm`, .png or .jpg.

    Returns:
        image_id, patient_id, modality, target, age_years, sex, path (relative to `dicom`), in a fixed order.

    Raises:
        InputError: Selected people without an image on disk (all of them are named).
    """
    rows: list[dict[str, object]] = []
    missing: list[str] = []
    for person in people.sort_values(["modality", "patient_id"], ascending=[False, True]).to_dict("records"):
        known = {str(name): value for name, value in person.items()}
        name = str(person["patient_id"])
        if name in (".", "..") or Path(name).name != name:
            raise InputError("a patient_id that is no name of a folder", where="clinical table", allowed=FOLDER_NAME)
        folder = dicom / name
        files = sorted(path for ending in ENDINGS for path in folder.glob(f"{person['modality']}-*{ending}"))
        if not files:
            missing.append(f"{person['patient_id']} ({person['modality']})")
        for file in files:
            image_id = f"{person['patient_id']}-{file.stem}"
            rows.append({"image_id": image_id, **known, "path": f"{folder.name}/{file.name}"})
    if missing:
        raise InputError(
            f"{len(missing)} selected people have no image: {', '.join(missing[:20])}",
            where=str(dicom),
            remedy="add the images, or take the date of imaging out of the clinical table",
        )
    return pd.DataFrame(rows)


def write_cohort(out: Path, images: pd.DataFrame, pixels: npt.NDArray[np.uint8], flow: Flow) -> None:
    """Write images.csv, images.npy and selection.json; row i of the table is image i of the array."""
    out.mkdir(parents=True, exist_ok=True)
    images.to_csv(out / "images.csv", index=False)
    np.save(out / "images.npy", pixels)
    (out / "selection.json").write_text(json.dumps(flow, indent=1) + "\n", encoding="utf-8")
