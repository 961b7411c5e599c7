"""Who the numbers come from: the flow of patients, groups beside the paper's, sample images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from PIL import Image

from osteo_models.core.errors import StaleDataError
from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import CLASS_NAMES, MODALITIES, VALIDATIONS
from osteo_models.report.report_data import Evidence, Facts, Records, read_paper
from osteo_models.report.wording import name_stages

SAMPLES = 5


@dataclass(frozen=True)
class Step:
    """A box of the flow diagram: who is left, and how many the rule took out."""

    rule: str
    left: int
    out: int


@dataclass(frozen=True)
class Group:
    """One class of one modality, from the first record to the last image."""

    modality: str
    name: str
    steps: list[Step]
    sets: list[dict[str, Any]]
    paper: dict[str, Any]
    counts: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A stored image as the networks see it."""

    uri: str
    alt: str
    image_id: str


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    return {"groups": build_groups(evidence), "samples": build_samples(evidence)}


def build_groups(evidence: Evidence) -> list[Group]:
    """The flow of figures 1 and 2: MRI then CT, osteoporosis then control."""
    paper = {row["group"]: row for row in read_paper("cohort")}
    groups: list[Group] = []
    for modality in MODALITIES:
        for target in (1, 0):
            key = f"{modality}_{CLASS_NAMES[target]}"
            steps = evidence.selection.get(key, [])
            before = [steps[0]["left"], *(step["left"] for step in steps)] if steps else []
            boxes = [
                Step(str(step["rule"]), int(step["left"]), int(was) - int(step["left"]))
                for step, was in zip(steps, before, strict=False)
            ]
            sets = _count_sets(_of_group(evidence.splits, modality, target), evidence.stages)
            counts = count_people(_of_group(evidence.images, modality, target))
            groups.append(Group(modality, CLASS_NAMES[target], boxes, sets, paper[key], counts))
    return groups


def _of_group(rows: Records, modality: str, target: int) -> Records:
    return [row for row in rows if (row["modality"], row["target"]) == (modality, target)]


def _count_sets(rows: Records, stages: StageTable) -> Records:
    folds, holdout, tests = (name_stages(stages.select(validation)) for validation in VALIDATIONS)
    sets = (
        (f"folds of {folds}", [row for row in rows if not row["holdout"]]),
        (f"hold-out, {holdout}", [row for row in rows if row["holdout"]]),
        (f"patient-based test, {tests}", [row for row in rows if row["patient_test"]]),
    )
    return [{"name": name} | count_people(part) for name, part in sets if part]


def count_people(images: Records) -> dict[str, Any]:
    """People and images, sexes and ages; empty where there is nobody."""
    people = {row["patient_id"]: row for row in images}
    if not people:
        return {}
    ages = [int(row["age_years"]) for row in people.values()]
    return {
        "patients": len(people),
        "images": len(images),
        "male": sum(row["sex"] == "M" for row in people.values()),
        "female": sum(row["sex"] == "F" for row in people.values()),
        "age_low": min(ages),
        "age_high": max(ages),
        "age_mean": fmean(ages),
        "age_sd": stdev(ages) if len(ages) > 1 else 0.0,
    }


def build_samples(evidence: Evidence) -> list[tuple[str, list[Sample]]]:
    """Middle slices of patients spread over the ages, per modality and class.

    Raises:
        StaleDataError: images.npy and images.csv do not belong together.
    """
    path = evidence.artifacts / "cohort" / "images.npy"
    if not evidence.images or not path.is_file():
        return []
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(pixels) != len(evidence.images):
        raise StaleDataError(
            f"{len(pixels)} images for {len(evidence.images)} rows of images.csv",
            where=str(path),
            remedy="make both again: `dvc repro -f cohort`",
        )
    found: list[tuple[str, list[Sample]]] = []
    for modality in MODALITIES:
        for target in (0, 1):
            chosen = _choose_samples(evidence.images, modality, target)
            samples = [_sample(evidence.images[row], pixels[row]) for row in chosen]
            found.append((f"{modality.upper()}, {CLASS_NAMES[target]}", samples))
    return found


def _choose_samples(images: Records, modality: str, target: int) -> list[int]:
    """Rows of the middle slices of a few patients, from the youngest to the oldest."""
    slices: dict[str, list[int]] = {}
    for number, row in enumerate(images):
        if (row["modality"], row["target"]) == (modality, target):
            slices.setdefault(str(row["patient_id"]), []).append(number)
    middle = [numbers[len(numbers) // 2] for numbers in slices.values()]
    middle.sort(key=lambda number: (images[number]["age_years"], number))
    count = min(SAMPLES, len(middle))
    return [middle[round(place * (len(middle) - 1) / max(1, count - 1))] for place in range(count)]


def _sample(row: dict[str, Any], pixels: np.ndarray) -> Sample:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    sex = {"F": "woman", "M": "man"}.get(str(row["sex"]), "person")
    kind = f"{str(row['modality']).upper()} slice of the lumbar spine, {CLASS_NAMES[int(row['target'])]}"
    return Sample(uri, f"{kind}, {sex} of {int(row['age_years'])} years", str(row["image_id"]))
