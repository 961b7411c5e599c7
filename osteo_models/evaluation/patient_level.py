"""The patient level: one score per patient, and how well each patient's images were classified (table 10)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from osteo_models.core.errors import InputError
from osteo_models.core.terms import CLASS_NAMES, decide
from osteo_models.evaluation.intervals import proportion_interval
from osteo_models.evaluation.scored_cases import check_cases


@dataclass(frozen=True)
class PatientResult:
    """One patient: the mean score of the images, and how many of them were classified rightly."""

    patient_id: str
    target: int
    score: float
    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass(frozen=True)
class Extreme:
    """The patient of a class with the lowest or highest share of right images, with Wald's interval as in table 10."""

    group: str
    which: str
    patient_id: str
    accuracy: float
    ci_low: float
    ci_high: float
    images: int
    correct: int


def score_patients(
    target: ArrayLike, score: ArrayLike, patient_id: Iterable[Any], *, threshold: float = 0.5
) -> list[PatientResult]:
    """Mean score and accuracy of each patient, ordered by patient_id.

    Raises:
        InputError: As in `summarize`, and where a patient's images have both targets.
    """
    cases = check_cases(target, score, patient_id)
    names, index, images = np.unique(cases.patient, return_inverse=True, return_counts=True)
    positives = np.bincount(index, weights=cases.target)
    mixed = names[(positives > 0) & (positives < images)]
    if mixed.size:
        shown = ", ".join(str(name) for name in mixed[:5])
        raise InputError(f"{mixed.size} patient(s) with both targets: {shown}", allowed="one target per patient")
    means = np.bincount(index, weights=cases.score) / images
    correct = np.bincount(index, weights=decide(cases.score, threshold) == (cases.target == 1))
    return [
        PatientResult(str(name), int(positives[row] > 0), float(means[row]), int(images[row]), int(correct[row]))
        for row, name in enumerate(names)
    ]


def find_extremes(patients: Sequence[PatientResult]) -> list[Extreme]:
    """Best and worst patient of each class; of equals the one with most images, whose figure is the firmest."""
    found: list[Extreme] = []
    for label, group in enumerate(CLASS_NAMES):
        members = [patient for patient in patients if patient.target == label]
        if not members:
            continue
        worst = min(members, key=lambda one: (one.accuracy, -one.images, one.patient_id))
        best = min(members, key=lambda one: (-one.accuracy, -one.images, one.patient_id))
        for which, one in (("minimum", worst), ("maximum", best)):
            low, high = proportion_interval(one.correct, one.images)
            found.append(Extreme(group, which, one.patient_id, one.accuracy, low, high, one.images, one.correct))
    return found
