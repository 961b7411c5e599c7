"""Two jobs against each other: the optimism of the image protocol, DeLong's tests of architectures and modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, Final, get_args

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.evaluation.delong import DelongResult, delong_test, delong_unpaired
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_level import MetricName
from osteo_models.evaluation.predictions import Predictions
from osteo_models.evaluation.roc import Level
from osteo_models.evaluation.rows import INTERVAL, PROPORTIONS, Row

SOURCES: Final = ("source_first", "source_second")
COMPARISON_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "delong": (
        *("stage", "protocol", "subset", "level", "first", "second", "auc_first", "auc_second", "difference"),
        *(*INTERVAL, "z", "p_value", "n", "n_patients", "note", *SOURCES),
    ),
    "delong_unpaired": (
        *("stage_first", "stage_second", "protocol", "level", "first", "second", "auc_first", "auc_second"),
        *("difference", *INTERVAL, "z", "df", "p_value", "n_first", "n_second"),
        *("n_patients_first", "n_patients_second", "note", *SOURCES),
    ),
    "image_vs_patient": (
        *("stage", "architecture", "images", "metric", "image", "patient", "difference", *INTERVAL),
        *("n_image", "n_patient", "n_patients", "source_image", "source_patient"),
    ),
}
OPTIMISM_METRICS: Final[tuple[MetricName, ...]] = (*PROPORTIONS, "balanced_accuracy", "roc_auc", "brier")


def optimism_rows(jobs: Sequence[Predictions], measure: Measure) -> Iterator[Row]:
    """The image protocol minus the patient protocol, for each job that ran under both.

    Both protocols score the same patients, so that the interval is one of paired differences.
    """
    patient_jobs = {(job.stage, job.architecture, job.images): job for job in jobs if job.protocol == "patient"}
    for image in jobs:
        patient = patient_jobs.get((image.stage, image.architecture, image.images))
        if image.protocol != "image" or patient is None:
            continue
        row: Row = {"stage": image.stage, "architecture": image.architecture, "images": image.images}
        row |= {"n_image": image.target.size, "n_patient": patient.target.size}
        row |= {"n_patients": int(np.union1d(image.patient_id, patient.patient_id).size)}
        row |= {"source_image": image.source, "source_patient": patient.source}
        for name, paired in compare_scores(image.cases, patient.cases, OPTIMISM_METRICS, measure).items():
            cells: Row = {"metric": name, "image": paired.first, "patient": paired.second, "difference": paired.value}
            yield row | cells | {"ci_low": paired.ci_low, "ci_high": paired.ci_high}


def delong_rows(jobs: Sequence[Predictions]) -> Iterator[Row]:
    """DeLong's test of architectures on the same images, at the image level and at the patient level.

    The unimodal network against each other architecture of its stage, image set and protocol; on the hold-out and the
    patient-based set also the multimodal against the unimodal network, per modality, as in table 9.
    """
    for first, second, subset in _pair_jobs(jobs):
        part = first if subset == first.images else first.select(first.modality == subset)
        _, rows_a, rows_b = np.intersect1d(part.image_id, second.image_id, return_indices=True)
        if not rows_a.size:
            continue
        a, b = part.select(rows_a), second.select(rows_b)
        patients = int(np.unique(a.patient_id).size)
        for level in get_args(Level):
            row: Row = {"stage": a.stage, "protocol": a.protocol, "subset": subset, "level": level}
            row |= {"first": f"{a.architecture}-{a.images}", "second": f"{b.architecture}-{b.images}"}
            row |= {"n": a.target.size if level == "image" else patients, "n_patients": patients}
            row |= {"source_first": a.source, "source_second": b.source}
            columns = (a.target, a.score, b.score)
            yield row | _test_cells(delong_test, *columns, patient_id=a.patient_id, level=level)


def _pair_jobs(jobs: Sequence[Predictions]) -> Iterator[tuple[Predictions, Predictions, str]]:
    for first in jobs:
        for second in jobs:
            if (first.stage, first.protocol) != (second.stage, second.protocol):
                continue
            if first.images == second.images and first.architecture == "unimodal" != second.architecture:
                yield first, second, first.images
            elif (first.images, second.architecture) == ("multimodal", "unimodal") and second.images in MODALITIES:
                yield first, second, second.images


def _test_cells(test: Callable[..., DelongResult], *columns: np.ndarray, **options: Any) -> Row:
    """The result of a test, or why it is undefined."""
    try:
        result = test(*columns, **options)
    except InputError as error:
        return {"note": f"undefined: {error.found}"}
    cells: Row = {"auc_first": result.auc_a, "auc_second": result.auc_b, "difference": result.auc_a - result.auc_b}
    cells |= {"ci_low": result.ci_low, "ci_high": result.ci_high, "z": result.z, "p_value": result.p_value}
    return cells | {"note": result.warning} | ({} if result.df is None else {"df": result.df})


def unpaired_rows(jobs: Sequence[Predictions]) -> Iterator[Row]:
    """One modality against another, which are of different patients: the same network on either, at both levels.

    The outputs of a multimodal network; for the other networks the jobs of the two image sets in the same stage, or
    both in cross-validation.
    """
    for first in jobs:
        if np.unique(first.modality).size > 1 and first.images == "multimodal":
            for a, b in combinations(MODALITIES, 2):
                yield from _unpaired(first.select(first.modality == a), first.select(first.modality == b), a, b)
        for second in jobs:
            same = (first.architecture, first.protocol) == (second.architecture, second.protocol)
            together = first.stage == second.stage or first.validation == second.validation == "folds"
            if same and together and (first.images, second.images) in combinations(MODALITIES, 2):
                yield from _unpaired(first, second, first.images, second.images)


def _unpaired(a: Predictions, b: Predictions, modality_a: Modality, modality_b: Modality) -> Iterator[Row]:
    if not (a.target.size and b.target.size):
        return
    columns = (a.target, a.score, b.target, b.score)
    for level in get_args(Level):
        row: Row = {"stage_first": a.stage, "stage_second": b.stage, "protocol": a.protocol, "level": level}
        row |= {"first": f"{a.architecture}-{a.images} on {modality_a}"}
        row |= {"second": f"{b.architecture}-{b.images} on {modality_b}"}
        for side, job in (("first", a), ("second", b)):
            count = int(np.unique(job.patient_id).size)
            row |= {f"n_{side}": job.target.size if level == "image" else count, f"n_patients_{side}": count}
            row |= {f"source_{side}": job.source}
        patients = {"patient_a": a.patient_id, "patient_b": b.patient_id}
        yield row | _test_cells(delong_unpaired, *columns, **patients, level=level)
