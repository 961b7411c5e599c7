"""Two jobs against each other: the optimism of the image protocol, DeLong's tests of architectures and modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, get_args

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.evaluation.delong import delong_test, delong_unpaired
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_sums import MetricName
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import Level
from osteo_models.evaluation.rows import Row

OPTIMISM_METRICS: Final[tuple[MetricName, ...]] = (
    "accuracy",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "brier",
)


def optimism_rows(jobs: Sequence[Predictions], measure: Measure) -> Iterator[Row]:
    """The image protocol minus the patient protocol, for each job that ran under both.

    Both protocols score the same patients, so that the interval is one of paired differences.
    """
    patient_jobs = {(job.stage, job.architecture, job.images): job for job in jobs if job.protocol == "patient"}
    for image in jobs:
        patient = patient_jobs.get((image.stage, image.architecture, image.images))
        if image.protocol != "image" or patient is None:
            continue
        found = compare_scores(image.cases, patient.cases, OPTIMISM_METRICS, measure)
        n_patients = int(np.union1d(image.patient_id, patient.patient_id).size)
        for name, one in found.items():
            row: Row = {"stage": image.stage, "architecture": image.architecture, "images": image.images}
            row |= {"metric": name, "image": one.first, "patient": one.second, "difference": one.value}
            row |= {"ci_low": one.ci_low, "ci_high": one.ci_high}
            row |= {"n_image": image.target.size, "n_patient": patient.target.size, "n_patients": n_patients}
            yield row | {"source_image": image.source, "source_patient": patient.source}


def delong_rows(jobs: Sequence[Predictions]) -> Iterator[Row]:
    """DeLong's test of architectures on the same images, at the image level and at the patient level.

    The unimodal network against each other architecture of its stage, image set and protocol; on the hold-out and the
    patient-based set also the multimodal against the unimodal network, per modality, as in table 9.
    """
    for first, second, subset in _pair_jobs(jobs):
        part = first if subset == first.images else first.select(first.modality == subset)
        _, rows_a, rows_b = np.intersect1d(part.image_id, second.image_id, return_indices=True)
        if rows_a.size:
            for level in get_args(Level):
                yield _delong_row(part.select(rows_a), second.select(rows_b), subset, level)


def _pair_jobs(jobs: Sequence[Predictions]) -> Iterator[tuple[Predictions, Predictions, str]]:
    for first in jobs:
        for second in jobs:
            if (first.stage, first.protocol) != (second.stage, second.protocol):
                continue
            if first.images == second.images and first.architecture == "unimodal" != second.architecture:
                yield first, second, first.images
            elif (first.images, second.architecture) == ("multimodal", "unimodal") and second.images in MODALITIES:
                yield first, second, second.images


def _delong_row(a: Predictions, b: Predictions, subset: str, level: Level) -> Row:
    row: Row = {"stage": a.stage, "protocol": a.protocol, "subset": subset, "level": level}
    row |= {"first": f"{a.architecture}-{a.images}", "second": f"{b.architecture}-{b.images}"}
    patients = int(np.unique(a.patient_id).size)
    row |= {"n": a.target.size if level == "image" else patients, "n_patients": patients}
    row |= {"source_first": a.source, "source_second": b.source}
    try:
        found = delong_test(a.target, a.score, b.score, patient_id=a.patient_id, level=level)
    except InputError as error:
        return row | {"note": f"undefined: {error.found}"}
    row |= {"auc_first": found.auc_a, "auc_second": found.auc_b, "difference": found.auc_a - found.auc_b}
    row |= {"ci_low": found.ci_low, "ci_high": found.ci_high, "z": found.z, "p_value": found.p_value}
    return row | {"note": found.warning}


def unpaired_rows(jobs: Sequence[Predictions]) -> Iterator[Row]:
    """One modality against another, which are of different patients: the same network on either, at both levels.

    Of a network with several outputs the one against the other; of the others the jobs of the two image sets in the
    same stage, or both in cross-validation.
    """
    for first in jobs:
        if np.unique(first.modality).size > 1 and first.images == "multimodal":
            for a, b in combinations(MODALITIES, 2):
                yield from _unpaired(first.select(first.modality == a), first.select(first.modality == b), a, b)
        for second in jobs:
            alike = (first.architecture, first.protocol) == (second.architecture, second.protocol)
            together = first.stage == second.stage or first.validation == second.validation == "folds"
            if alike and together and (first.images, second.images) in combinations(MODALITIES, 2):
                yield from _unpaired(first, second, first.images, second.images)


def _unpaired(a: Predictions, b: Predictions, modality_a: Modality, modality_b: Modality) -> Iterator[Row]:
    if not (a.target.size and b.target.size):
        return
    for level in get_args(Level):
        row: Row = {"stage_first": a.stage, "stage_second": b.stage, "protocol": a.protocol, "level": level}
        row |= {"first": f"{a.architecture}-{a.images} on {modality_a}"}
        row |= {"second": f"{b.architecture}-{b.images} on {modality_b}"}
        for side, job in (("first", a), ("second", b)):
            patients = int(np.unique(job.patient_id).size)
            row |= {f"n_{side}": job.target.size if level == "image" else patients, f"n_patients_{side}": patients}
            row |= {f"source_{side}": job.source}
        try:
            found = delong_unpaired(
                *(a.target, a.score, b.target, b.score), patient_a=a.patient_id, patient_b=b.patient_id, level=level
            )
        except InputError as error:
            yield row | {"note": f"undefined: {error.found}"}
            continue
        row |= {"auc_first": found.auc_a, "auc_second": found.auc_b, "difference": found.auc_a - found.auc_b}
        row |= {"ci_low": found.ci_low, "ci_high": found.ci_high, "z": found.t, "df": found.df}
        yield row | {"p_value": found.p_value, "note": found.warning}
