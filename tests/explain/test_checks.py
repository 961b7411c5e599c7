"""Shares and ranks against values that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import spearmanr

from osteo_models.explain.gallery import MAX_SIMILARITY, hardly_changes, mean_similarity, rank_correlation, share_inside
from osteo_models.explain.maps import explain_images
from osteo_models.models import build

HEATS = arrays.arrays(np.float32, (8, 6), elements=st.integers(0, 9).map(float))


@given(mask=arrays.arrays(np.float64, (8, 6), elements=st.floats(0, 1)), level=st.floats(0.125, 50, width=16))
def test_a_constant_map_has_the_masks_share_of_the_area(mask, level):
    assert share_inside(np.full((8, 6), level, np.float32), mask) == pytest.approx(mask.mean())


def test_the_share_counts_what_lies_inside():
    heat, mask = np.zeros((8, 6), np.float32), np.zeros((8, 6))
    mask[:2] = 1
    assert share_inside(heat, mask) is None
    heat[0, 0], heat[7, 5] = 3, 1
    assert share_inside(heat, mask) == 0.75
    mask[7, 5] = 0.5
    assert share_inside(heat, mask) == 0.875


@given(heat=HEATS, other=HEATS)
def test_ranks_correlate_as_scipy_says(heat, other):
    found = rank_correlation(heat, other)
    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(heat.ravel(), other.ravel()).statistic, abs=1e-12)


def test_the_mean_takes_the_images_that_have_ranks():
    rising = np.arange(12, dtype=np.float32).reshape(3, 4)
    flat = np.zeros_like(rising)
    assert mean_similarity(np.stack([rising, flat]), np.stack([-rising, rising])) == -1
    assert mean_similarity(flat[None], rising[None]) is None


@pytest.mark.parametrize("architecture", ["unimodal", "traditional_cnn"])
def test_the_same_weights_are_fully_alike_and_flagged_and_other_weights_less(architecture):
    images = np.random.default_rng(4).integers(0, 256, (2, 80, 60), dtype=np.uint8)
    trained, same, fresh = (
        explain_images(build(architecture, seed=seed), images, [1, 0], seed=0, samples=4) for seed in (1, 1, 2)
    )
    for method, maps in trained.items():
        alike = mean_similarity(maps, same[method])
        assert alike == pytest.approx(1) and hardly_changes(alike)
    other = mean_similarity(trained["smoothgrad"], fresh["smoothgrad"])
    assert other < MAX_SIMILARITY and not hardly_changes(other)


def test_what_is_undefined_is_not_flagged():
    assert not hardly_changes(None)
