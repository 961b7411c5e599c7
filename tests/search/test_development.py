"""The search sees the MRI development set and nothing else."""

import warnings
import weakref
from dataclasses import replace
from unittest.mock import ANY

import numpy as np
import pytest

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from osteo_models.core.errors import OsteoError, SplitError
from osteo_models.core.settings import load_settings
from osteo_models.registry.run_context import RunContext
from osteo_models.search.development import select_development
from pipelines.search import search


class Guard:
    """Images that refuse to be read in the hold-out."""

    def __init__(self, images, forbidden) -> None:
        self.images, self.forbidden = images, forbidden

    def __getitem__(self, rows):
        touched = np.atleast_1d(np.arange(len(self.images))[rows])
        assert not self.forbidden[touched].any(), "the hold-out was read"
        return self.images[rows]


def test_the_hold_out_is_not_read_and_decides_nothing(tables):
    holdout = (tables.splits["holdout"] == 1).to_numpy()
    ct = (tables.splits["modality"] == "ct").to_numpy()
    assert holdout.any() and (holdout & ~ct).any()
    expected = select_development(tables.splits, tables.images, "mri")
    found = select_development(tables.splits, Guard(tables.images, holdout | ct), "mri")
    assert len(found.patient) == (~holdout & ~ct).sum() and not found.arrays.modality.any()

    other = tables.images.copy()
    other[holdout] = 255 - other[holdout]
    others = tables.splits.copy()
    others.loc[holdout, "target"] = 1 - others.loc[holdout, "target"]
    changed = select_development(others, other, "mri")
    digests = [one.digest_inputs(one.deal(3, 1)) for one in (found, changed, expected)]
    assert digests[0] == digests[1] == digests[2]
    for one in (found, changed):
        assert np.array_equal(one.arrays.images, expected.arrays.images)
        assert np.array_equal(one.arrays.target, expected.arrays.target)
        assert np.array_equal(one.patient, expected.patient)
    with pytest.raises(AssertionError, match="hold-out was read"):
        Guard(tables.images, holdout)[:]


@pytest.mark.parametrize("name", ["images", "target", "patient"])
def test_the_digests_see_a_change_of_each_part(tables, name):
    development = select_development(tables.splits, tables.images, "mri")
    folds = development.deal(3, 1)
    before = development.digest_inputs(folds)
    assert development.digest_inputs(development.deal(3, 2)) == {**before, "folds": ANY}
    array = development.patient if name == "patient" else getattr(development.arrays, name)
    array.flat[0] += 1
    after = development.digest_inputs(folds)
    assert [part for part in before if after[part] != before[part]] == ["patients" if name == "patient" else "images"]


def test_folds_keep_patients_together_and_cover_all_images(tables):
    development = select_development(tables.splits, tables.images, "mri")
    folds, fresh = development.deal(3, 1), development.deal(3, 2)
    assert np.array_equal(np.sort(np.concatenate([rows.test for rows in folds])), np.arange(len(development.patient)))
    for rows in folds:
        assert not set(development.patient[rows.train]) & set(development.patient[rows.test])
    assert [rows.test.tolist() for rows in folds] != [rows.test.tolist() for rows in fresh]


def test_an_empty_development_set_is_refused(tables):
    with pytest.raises(SplitError, match=r"splits\.csv: no mri image outside the hold-out"):
        select_development(tables.splits.assign(holdout=1), tables.images, "mri")


def test_the_pipeline_hands_on_the_development_set_and_nothing_else(tables, small_params, tmp_path, monkeypatch):
    """Before anything is searched the tables are gone, and until then no image of the hold-out can be read."""
    forbidden = (tables.splits["holdout"] == 1).to_numpy() | (tables.splits["modality"] == "ct").to_numpy()
    made, found = [], []

    def load(artifacts):
        guarded = replace(tables, images=Guard(tables.images, forbidden))
        made.append(weakref.ref(guarded))
        return guarded

    def stop_there(address, arrays, **_):
        found.append((arrays, made[0]()))
        raise OsteoError("far enough")

    monkeypatch.setattr("pipelines.search.load_tables", load)
    monkeypatch.setattr("pipelines.search.open_cluster", stop_there)
    with pytest.raises(OsteoError, match="far enough"):
        context = RunContext(load_settings(tmp_path))
        context.__dict__["params"] = small_params
        search(context)
    expected = select_development(tables.splits, tables.images, "mri").arrays
    ((arrays, left),) = found
    assert left is None
    for name in ("images", "target", "modality"):
        assert np.array_equal(getattr(arrays, name), getattr(expected, name))
