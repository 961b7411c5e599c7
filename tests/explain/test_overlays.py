"""Pictures are looked at by people; here, what can be measured in them."""

from __future__ import annotations

import numpy as np
import pytest

from osteo_models.explain.overlays import HEAD, MARGIN, OUTLINE, SCALE, draw_overlay, name_note, name_title

IMAGE = np.tile(np.linspace(0, 200, 60).astype(np.uint8), (80, 1))
WIDTH, HEIGHT = 60 * SCALE, 80 * SCALE


def panels(heat, mask=None):
    """The image and the overlay of a picture."""
    pixels = np.asarray(draw_overlay(IMAGE, heat, title="t", note="n", mask=mask)).astype(int)
    right = pixels.shape[1] - MARGIN - WIDTH
    starts = (MARGIN, next(x for x in range(MARGIN + WIDTH, right) if pixels[HEAD + 5, x].sum() < 600))
    return [pixels[HEAD : HEAD + HEIGHT, start : start + WIDTH] for start in starts]


def test_no_map_leaves_the_image_and_the_image_stays_grey():
    image, overlay = panels(np.zeros((80, 60), np.float32))
    assert np.array_equal(image, overlay)
    assert np.ptp(image, axis=2).max() == 0 and np.ptp(image) > 150


def test_the_map_shows_where_it_is_and_nowhere_else():
    heat = np.zeros((80, 60), np.float32)
    heat[20:40, 10:30] = 7.0
    image, overlay = panels(heat)
    change = np.abs(image - overlay).sum(axis=2)
    assert change[25 * SCALE : 35 * SCALE, 15 * SCALE : 25 * SCALE].min() > 100
    assert change[50 * SCALE :].max() == 0
    assert np.array_equal(panels(heat * 1000)[1], overlay)  # relative to its own highest values


def test_the_outline_of_the_mask_is_drawn_and_its_inside_is_not():
    mask = np.zeros((80, 60), np.uint8)
    mask[30:50, 20:40] = 255
    drawn = (panels(np.zeros((80, 60), np.float32), mask)[1] == OUTLINE).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert (rows.min() // SCALE, rows.max() // SCALE) == pytest.approx((30, 49), abs=1)
    assert (columns.min() // SCALE, columns.max() // SCALE) == pytest.approx((20, 39), abs=1)
    assert not drawn[35 * SCALE : 45 * SCALE, 25 * SCALE : 35 * SCALE].any()


def test_the_words_say_what_was_decided_and_what_this_is_not():
    assert name_title("SmoothGrad", "ct", 1, 0.914) == "SmoothGrad, CT: taken for osteoporosis (0.91)"
    assert name_title("Grad-CAM++", None, 0, 0.2, target=0) == "Grad-CAM++: taken for control (0.20)"
    assert name_title("Grad-CAM++", "mri", 0, 0.2, target=1).endswith("control (0.20), truly osteoporosis")
    assert name_note("synthetic cohort") == "synthetic cohort, research software, not a medical device"
    assert name_note("") == "research software, not a medical device"
