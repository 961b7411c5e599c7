"""The cohort: flow of patients, groups with the paper's, sample images."""

from __future__ import annotations

import base64
import io
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


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    return {"groups": build_groups(data), "samples": build_samples(data)}


def build_groups(data: ReportData) -> Records:
    """The flow of figures 1 and 2: by modality, osteoporosis then control."""
    paper = {row["group"]: row for row in read_paper("cohort")}
    groups = []
    for modality in MODALITIES:
        for target in (1, 0):
            name = CLASS_NAMES[target]
            steps = data.selection.get(f"{modality}_{name}", [])
            left = [int(step["left"]) for step in steps]
            boxes = [
                {"rule": str(step["rule"]), "left": after, "out": before - after}
                for step, before, after in zip(steps, [*left[:1], *left], left, strict=False)
            ]
            images, splits = (
                [row for row in rows if (row["modality"], row["target"]) == (modality, target)]
                for rows in (data.images, data.splits)
            )
            group = {"modality": modality, "name": name, "steps": boxes, "sets": _count_sets(splits, data.stages)}
            groups.append(group | {"paper": paper.get(f"{modality}_{name}", {}), "counts": count_patients(images)})
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


def build_samples(data: ReportData) -> list[tuple[str, Records]]:
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


def _sample(row: dict[str, Any], pixels: np.ndarray) -> dict[str, str]:
    sex = {"F": "woman", "M": "man"}.get(str(row["sex"]), "person")
    kind = f"{str(row['modality']).upper()} slice of the lumbar spine, {CLASS_NAMES[int(row['target'])]}"
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    alt = f"{kind}, {sex} of {int(row['age_years'])} years"
    _, uri = encode_picture(picture, "PNG", optimize=True)
    return {"uri": uri, "alt": alt, "image_id": str(row["image_id"])}


def encode_picture(picture: Image.Image, kind: str, **options: Any) -> tuple[int, str]:
    """The size in bytes of an encoded picture, and its data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    content = buffer.getvalue()
    return len(content), f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode('ascii')}"
