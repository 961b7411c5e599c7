"""Two jobs against each other: the optimism of the image protocol, and DeLong's test of architectures (table 9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from osteo_models.errors import InputError
from osteo_models.evaluation.bootstrap import (
    MetricName,
    PatientSums,
    compute_metrics,
    draw_weights,
    sum_patients,
)
from osteo_models.evaluation.cases import Cases, IntArray
from osteo_models.evaluation.delong import delong_test
from osteo_models.evaluation.intervals import percentile_interval
from osteo_models.evaluation.patients import score_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.rows import Row
from osteo_models.terms import MODALITIES

OPTIMISM_METRICS: Final[tuple[MetricName, ...]] = (
    "accuracy",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "roc_auc",
    "brier",
)


def optimism_rows(jobs: Sequence[Predictions], *, threshold: float, seed: int, resamples: int) -> Iterator[Row]:
    """The image protocol minus the patient protocol, for each job that ran under both.

    Both protocols score the same patients, so that a resample draws the same patients for both: the interval is one of
    paired differences.
    """
    patient_jobs = {(job.stage, job.architecture, job.images): job for job in jobs if job.protocol == "patient"}
    for image in jobs:
        patient = patient_jobs.get((image.stage, image.architecture, image.images))
        if image.protocol != "image" or patient is None:
            continue
        names = np.union1d(image.patient_id, patient.patient_id)
        a, b = (sum_patients(_cases(job), threshold, [str(name) for name in names]) for job in (image, patient))
        once = np.ones((1, names.size))
        weights = draw_weights(_joint_stratum(a, b), resamples, seed)
        points_a, points_b = compute_metrics(a, once), compute_metrics(b, once)
        samples_a, samples_b = compute_metrics(a, weights), compute_metrics(b, weights)
        for name in OPTIMISM_METRICS:
            interval = percentile_interval(samples_a[name] - samples_b[name])
            values = [None if np.isnan(points[name][0]) else float(points[name][0]) for points in (points_a, points_b)]
            difference = None if values[0] is None or values[1] is None else values[0] - values[1]
            row: Row = {"stage": image.stage, "architecture": image.architecture, "images": image.images}
            row |= {"metric": name, "image": values[0], "patient": values[1], "difference": difference}
            row |= {"ci_low": interval[0] if interval else None, "ci_high": interval[1] if interval else None}
            row |= {"n_image": image.target.size, "n_patient": patient.target.size, "n_patients": names.size}
            yield row | {"source_image": image.source, "source_patient": patient.source}


def _cases(job: Predictions) -> Cases:
    return Cases(job.target, job.score, job.patient_id, has_patients=True)


def _joint_stratum(a: PatientSums, b: PatientSums) -> IntArray:
    """A patient whom only one of the two jobs scored still has a class."""
    return np.where(a.positives + b.positives > 0, 1, 0).astype(np.int64)


def delong_rows(jobs: Sequence[Predictions]) -> Iterator[Row]:
    """DeLong's test of architectures on the same images, at the image level and at the patient level.

    The unimodal network against each other architecture of its stage, image set and protocol; on the hold-out and the
    patient-based set also the multimodal against the unimodal network, per modality, as in table 9.
    """
    for first, second, subset in _pair_jobs(jobs):
        part = first if subset == first.images else first.select(first.modality == subset)
        _, rows_a, rows_b = np.intersect1d(part.image_id, second.image_id, return_indices=True)
        if rows_a.size:
            for level in ("image", "patient"):
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


def _delong_row(a: Predictions, b: Predictions, subset: str, level: str) -> Row:
    row: Row = {"stage": a.stage, "protocol": a.protocol, "subset": subset, "level": level}
    row |= {"first": f"{a.architecture}-{a.images}", "second": f"{b.architecture}-{b.images}"}
    patients = int(np.unique(a.patient_id).size)
    row |= {"n": a.target.size if level == "image" else patients, "n_patients": patients}
    row |= {"source_first": a.source, "source_second": b.source, "note": ""}
    target, score_a, score_b = a.target, a.score, b.score
    if level == "patient":
        both = [score_patients(job.target, job.score, job.patient_id) for job in (a, b)]
        target = np.asarray([one.target for one in both[0]], dtype=np.int64)
        score_a, score_b = (np.asarray([one.score for one in found]) for found in both)
    elif patients < a.target.size:
        row["note"] = "images of one patient are not independent: p is too small, see the patient level"
    try:
        found = delong_test(target, score_a, score_b)
    except InputError as error:
        return row | {"note": f"undefined: {error.found}"}
    row |= {"auc_first": found.auc_a, "auc_second": found.auc_b, "difference": found.auc_a - found.auc_b}
    return row | {"ci_low": found.ci_low, "ci_high": found.ci_high, "z": found.z, "p_value": found.p_value}
