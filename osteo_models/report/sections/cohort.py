"""The cohort: flow of patients, groups with the paper's, sample images."""

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
from osteo_models.report.report_data import Records, ReportData, read_paper
from osteo_models.report.wording import name_stages

SAMPLES = 5


@dataclass(frozen=True)
class Step:
    """A box of the flow diagram: a selection rule, how many are left after it, and how many it excluded."""

    rule: str
    left: int
    out: int


@dataclass(frozen=True)
class Group:
    """One class of one modality: the selection steps, the sets of images, and counts of ours and the paper's."""

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


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {"groups": build_groups(data), "samples": build_samples(data)}


def build_groups(data: ReportData) -> list[Group]:
    """The flow of figures 1 and 2: by modality, osteoporosis then control."""
    paper = {row["group"]: row for row in read_paper("cohort")}
    groups: list[Group] = []
    for modality in MODALITIES:
        for target in (1, 0):
            name = CLASS_NAMES[target]
            steps = data.selection.get(f"{modality}_{name}", [])
            left = [int(step["left"]) for step in steps]
            boxes = [
                Step(str(step["rule"]), after, before - after)
                for step, before, after in zip(steps, [*left[:1], *left], left, strict=False)
            ]
            images, splits = (
                [row for row in rows if (row["modality"], row["target"]) == (modality, target)]
                for rows in (data.images, data.splits)
            )
            sets, printed = _count_sets(splits, data.stages), paper.get(f"{modality}_{name}", {})
            groups.append(Group(modality, name, boxes, sets, printed, count_patients(images)))
    return groups


def _count_sets(rows: Records, stages: StageTable) -> Records:
    folds, holdout, tests = (name_stages(stages.select(validation)) for validation in VALIDATIONS)
    sets = {
        f"folds of {folds}": [row for row in rows if not row["holdout"]],
        f"hold-out, {holdout}": [row for row in rows if row["holdout"]],
        f"patient-based test, {tests}": [row for row in rows if row["patient_test"]],
    }
    return [{"name": name} | count_patients(part) for name, part in sets.items() if part]


def count_patients(images: Records) -> dict[str, Any]:
    """Number of patients and images, sexes and ages; empty without images."""
    patients = {row["patient_id"]: row for row in images}
    if not patients:
        return {}
    ages = [int(row["age_years"]) for row in patients.values()]
    sexes = [row["sex"] for row in patients.values()]
    counts = {"patients": len(patients), "images": len(images), "male": sexes.count("M"), "female": sexes.count("F")}
    spread = stdev(ages) if len(ages) > 1 else 0.0
    return counts | {"age_low": min(ages), "age_high": max(ages), "age_mean": fmean(ages), "age_sd": spread}


def build_samples(data: ReportData) -> list[tuple[str, list[Sample]]]:
    """Middle slices of patients spread over the ages, per modality and class.

    Raises:
        StaleDataError: images.npy and images.csv do not belong together.
    """
    path = data.artifacts / "cohort" / "images.npy"
    if not data.images or not path.is_file():
        return []
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(pixels) != len(data.images):
        raise StaleDataError(
            f"{len(pixels)} images for {len(data.images)} rows of images.csv",
            where=str(path),
            remedy="make both again: `dvc repro -f cohort`",
        )
    return [
        (
            f"{modality.upper()}, {CLASS_NAMES[target]}",
            [_sample(data.images[row], pixels[row]) for row in _choose_samples(data.images, modality, target)],
        )
        for modality in MODALITIES
        for target in (0, 1)
    ]


def _choose_samples(images: Records, modality: str, target: int) -> list[int]:
    """Rows of the middle slices of a few patients, from the youngest to the oldest."""
    slices: dict[str, list[int]] = {}
    for number, row in enumerate(images):
        if (row["modality"], row["target"]) == (modality, target):
            slices.setdefault(str(row["patient_id"]), []).append(number)
    middle = [numbers[len(numbers) // 2] for numbers in slices.values()]
    middle.sort(key=lambda number: (images[number]["age_years"], number))
    count = min(SAMPLES, len(middle))
    return [middle[round(step * (len(middle) - 1) / max(1, count - 1))] for step in range(count)]


def _sample(row: dict[str, Any], pixels: np.ndarray) -> Sample:
    sex = {"F": "woman", "M": "man"}.get(str(row["sex"]), "person")
    kind = f"{str(row['modality']).upper()} slice of the lumbar spine, {CLASS_NAMES[int(row['target'])]}"
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    alt = f"{kind}, {sex} of {int(row['age_years'])} years"
    return Sample(encode_picture(picture, "PNG", optimize=True)[1], alt, str(row["image_id"]))


def encode_picture(picture: Image.Image, kind: str, **options: Any) -> tuple[int, str]:
    """The size in bytes of an encoded picture, and its data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    content = buffer.getvalue()
    return len(content), f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode('ascii')}"
