"""Two versions on the images that both have scored: paired differences and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import PROTOCOLS, Validation
from osteo_models.evaluation.delong import DelongResult, delong_test
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_level import score_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.report.wording import KINDS


@dataclass(frozen=True)
class Difference:
    """B minus A of one metric; None where it is undefined."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pair:
    """Both versions on the same images of one kind of test."""

    kind: str
    protocol: str
    n: int
    n_patients: int
    balanced_accuracy: Difference
    roc_auc: Difference
    by_image: DelongResult | None
    by_patient: DelongResult | None
    note: str
    sources: tuple[str, str]


def pair_versions(first: Sequence[Predictions], second: Sequence[Predictions], *, threshold: float) -> list[Pair]:
    """Every kind of test and protocol in which both versions scored a common image."""
    pairs: list[Pair] = []
    for kind in KINDS:
        for protocol in reversed(PROTOCOLS):
            sides = [_select(jobs, kind, protocol) for jobs in (first, second)]
            if sides[0] is None or sides[1] is None:
                continue
            a, b = sides[0], sides[1]
            _, rows_a, rows_b = np.intersect1d(a.image_id, b.image_id, return_indices=True)
            a, b = a.select(rows_a), b.select(rows_b)
            if rows_a.size and np.array_equal(a.target, b.target):
                pairs.append(_compare(kind, protocol, a, b, threshold))
    return pairs


def _select(jobs: Sequence[Predictions], kind: Validation, protocol: str) -> Predictions | None:
    """The first job of a kind of test."""
    return next((job for job in jobs if job.validation == kind and job.protocol == protocol), None)


def _compare(kind: Validation, protocol: str, a: Predictions, b: Predictions, threshold: float) -> Pair:
    balanced, area = _subtract(a, b, threshold)
    by_image, note = _test(a.target, a.score, b.score)
    patients = [score_patients(job.target, job.score, job.patient_id) for job in (a, b)]
    target = np.asarray([one.target for one in patients[0]], dtype=np.int64)
    by_patient, why = _test(target, *(np.asarray([one.score for one in side]) for side in patients))
    return Pair(
        KINDS[kind],
        protocol,
        a.target.size,
        len(patients[0]),
        balanced,
        area,
        by_image,
        by_patient,
        note or why,
        (a.source, b.source),
    )


def _test(target: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[DelongResult | None, str]:
    """DeLong's test of B against A, or why there is none."""
    try:
        return delong_test(target, second, first), ""
    except InputError as error:
        return None, error.found.replace("`score_a`", "B's score").replace("`score_b`", "A's score")


def _subtract(a: Predictions, b: Predictions, threshold: float) -> tuple[Difference, Difference]:
    """Balanced accuracy and area of B minus those of A."""
    found = compare_scores(b.cases, a.cases, ("balanced_accuracy", "roc_auc"), Measure(threshold))
    balanced, area = (Difference(one.second, one.first, one.value, one.ci_low, one.ci_high) for one in found.values())
    return balanced, area
