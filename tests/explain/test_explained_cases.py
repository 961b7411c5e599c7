"""The choice of cases follows from the predictions alone."""

from __future__ import annotations

import numpy as np
import pytest

from osteo_models.evaluation.predictions import Predictions
from osteo_models.explain.explained_cases import choose_cases

#       image  patient modality target score
ROWS = [
    ("c1-mri-001", "c1", "mri", 0, 0.10),
    ("c1-mri-002", "c1", "mri", 0, 0.05),  # the surest control
    ("c2-mri-001", "c2", "mri", 0, 0.90),  # the worst error, twice of one patient
    ("c2-mri-002", "c2", "mri", 0, 0.95),
    ("c3-mri-001", "c3", "mri", 0, 0.60),  # the smallest error
    ("o1-mri-001", "o1", "mri", 1, 0.99),  # the surest case: the first of equals
    ("o2-mri-001", "o2", "mri", 1, 0.99),
    ("o3-mri-001", "o3", "mri", 1, 0.20),  # the second worst error
    ("o4-ct-001", "o4", "ct", 1, 0.50),  # at the threshold: osteoporosis
]


def predictions(rows) -> Predictions:
    image_id, patient_id, modality, target, score = zip(*rows, strict=True)
    return Predictions(
        "stage-5",
        "unimodal",
        "combined",
        "patient",
        "holdout",
        "source",
        np.zeros(len(rows), np.int64),
        np.array(image_id),
        np.array(patient_id),
        np.array(modality),
        np.array(target),
        np.array(score),
    )


@pytest.mark.parametrize("order", [range(9), range(8, -1, -1)])
def test_the_surest_of_each_class_and_the_worst_errors_of_different_patients(order):
    cases = choose_cases(predictions([ROWS[row] for row in order]), 0.5)
    assert [(case.image_id, case.kind) for case in cases] == [
        ("c1-mri-002", "correct"),
        ("o1-mri-001", "correct"),
        ("c2-mri-002", "worst_error"),
        ("o3-mri-001", "worst_error"),
        ("o4-ct-001", "correct"),
    ]
    assert [case.decision for case in cases] == [0, 1, 1, 0, 1]
    assert (cases[2].patient_id, cases[2].target, cases[2].score, cases[2].modality) == ("c2", 0, 0.95, "mri")


def test_the_threshold_decides_what_is_an_error():
    cases = choose_cases(predictions(ROWS), 0.97)
    assert [case.image_id for case in cases if case.kind == "worst_error"] == ["o3-mri-001", "o4-ct-001"]
