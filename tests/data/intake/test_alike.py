"""Looking for images that look alike, against the comparison of each with each."""

from __future__ import annotations

import time
import tracemalloc

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_models.data.intake.near_duplicates import MAX_DIFFERENT_BITS, find_near_duplicates


def compare_each_with_each(looks, patients):
    """What is meant, plainly."""
    nearest = []
    for look, patient in zip(looks, patients, strict=True):
        apart = np.bitwise_count(looks ^ look).sum(axis=1, dtype=int)
        apart[patients == patient] = 1000
        best = int(apart.argmin())
        nearest.append(best if apart[best] <= MAX_DIFFERENT_BITS else -1)
    return nearest


@st.composite
def collections(draw):
    """Looks near a few, up to just too many bits away, so that ties, copies and chains arise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, families = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    bits = rng.integers(0, 2, (families, 256), dtype=np.uint8)[rng.integers(0, families, count)]
    for row, flips in zip(bits, rng.integers(0, draw(st.integers(1, 10)), count), strict=True):
        row[rng.choice(256, flips, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64), rng.integers(0, draw(st.integers(1, 5)), count)


@given(collections())
def test_the_nearest_of_others_is_that_of_the_plain_form(found):
    looks, patients = found
    assert find_near_duplicates(looks, patients).tolist() == compare_each_with_each(looks, patients)


@pytest.mark.slow
def test_ten_times_the_images_take_about_ten_times_the_time_and_memory():
    rng, seconds, peaks = np.random.default_rng(0), [], []
    for count in (2_000, 20_000, 50_000, 200_000):
        looks = rng.integers(0, 2**64, (count // 20, 1, 4), dtype=np.uint64).repeat(20, axis=1)
        looks[:, :, 0] ^= rng.integers(0, 2**10, looks.shape[:2], dtype=np.uint64)  # a patient's slices are alike
        patients = np.arange(count // 20).repeat(20)
        tracemalloc.start()
        started = time.process_time()
        find_near_duplicates(looks.reshape(-1, 4), patients)
        seconds.append(time.process_time() - started)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        click.echo(f"{count:>7,} images: {seconds[-1]:.2f} s of CPU, {peaks[-1] / 1e6:.0f} MB")
    assert seconds[3] < 20 * seconds[1] and peaks[3] < 12 * peaks[1]
