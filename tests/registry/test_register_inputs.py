"""A network is registered with the images and folds that it was trained on, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from osteo_models.core.errors import StaleDataError
from osteo_models.training.job_data import load_tables
from pipelines.register import check_inputs


def test_other_images_or_folds_than_those_trained_on_are_refused(project) -> None:
    tables, (folded, _) = load_tables(project.settings.artifacts), project.jobs
    check_inputs(folded, tables)
    check_inputs(folded, replace(tables, splits=tables.splits.assign(age_years=55)))
    images = tables.images.copy()
    images[:, 0, 0] ^= 1
    with pytest.raises(StaleDataError, match="trained on other images than those in artifacts/; run `dvc repro exp"):
        check_inputs(folded, replace(tables, images=images))
    column = 1 - tables.splits["fold_patient"]
    with pytest.raises(StaleDataError, match="stage-1 unimodal-mri-patient: it was trained on other folds than"):
        check_inputs(folded, replace(tables, splits=tables.splits.assign(fold_patient=column)))
