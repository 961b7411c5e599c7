"""Drawn bodies as training images, and the out-of-distribution reference of a model folder made of them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from osteo_models.core.terms import MODALITIES
from osteo_models.serving.network import OOD, read_network
from osteo_models.serving.ood_fit import add_features, fit_pixels
from osteo_models.serving.out_of_distribution import OutOfDistribution, save_ood
from tests.data.bodies import draw_bodies

PATIENTS, EACH = 60, 5  # of a modality
COUNT = PATIENTS * EACH


@functools.cache
def draw_training() -> tuple[np.ndarray, list[str], list[str]]:
    """Images of both modalities, their modalities and patients."""
    parts = [draw_bodies(name, patients=PATIENTS, each=EACH, seed=1) for name in MODALITIES]
    names = [name for name in MODALITIES for _ in range(COUNT)]
    return np.concatenate([images for images, _ in parts]), names, [name for _, names in parts for name in names]


@functools.cache
def fit_pixels_once() -> OutOfDistribution:
    """The references of the pixels."""
    return fit_pixels(*draw_training())


def write_ood(folder: Path) -> Path:
    """Put the reference into a model folder."""
    save_ood(folder / OOD, add_features(fit_pixels_once(), read_network(folder), *draw_training()))
    return folder
