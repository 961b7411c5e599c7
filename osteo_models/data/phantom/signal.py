"""From tissue values to what a scanner stores: blur, coil, noise, whole numbers."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from osteo_models.data.phantom.anatomy import COLUMNS, ROWS, Anatomy
from osteo_models.data.phantom.draws import Draws, Field, blur3
from osteo_models.data.phantom.scene import rise

Stored = npt.NDArray[np.uint16]

MAX_STORED: Final = 4095  # 12 bits
RESCALE_INTERCEPT: Final = -1024


def store_mr(tissue: Field, anatomy: Anatomy, seed: int, patient_id: str, number: int) -> Stored:
    """T1 as a spine coil sees it: bright at the back, fading to the front, noisy where nothing is (Rician)."""
    draws = Draws(seed, "coil", patient_id)
    middle = ROWS * anatomy.spacing * draws.uniform(0.42, 0.58)
    fall, band = draws.uniform(85.0, 140.0), draws.uniform(45.0, 85.0)
    dark, gain = draws.uniform(0.10, 0.5), draws.uniform(0.75, 1.2)
    noise = draws.uniform(9.0, 20.0)
    x = ((np.arange(COLUMNS, dtype=np.float32) + np.float32(0.5)) * np.float32(anatomy.spacing))[None, :]
    y = ((np.arange(ROWS, dtype=np.float32) + np.float32(0.5)) * np.float32(anatomy.spacing))[:, None]
    depth, along = (anatomy.spacing * COLUMNS - x) * (1 / fall), (y - middle) * (1 / 150.0)
    coil = 1.5 / (1.0 + depth * depth) + 0.45
    coil = coil / (1.0 + 0.55 * along * along)
    saturation = dark + (1.0 - dark) * rise(x, band - 12.0, band + 12.0)
    signal = blur3(tissue) * (coil * saturation * gain)
    real, imaginary = Draws(seed, "noise", patient_id, number).white_pair(ROWS, COLUMNS)
    real = signal + real * noise
    imaginary *= noise
    return _whole(np.sqrt(real * real + imaginary * imaginary))


def store_ct(tissue: Field, seed: int, patient_id: str, number: int) -> Stored:
    """Hounsfield units with the correlated noise of a reconstruction, shifted by the rescale intercept."""
    draws = Draws(seed, "dose", patient_id)
    noise = draws.uniform(16.0, 34.0)
    own = Draws(seed, "noise", patient_id, number)
    return _whole(blur3(tissue) + blur3(own.white(ROWS, COLUMNS)) * noise - RESCALE_INTERCEPT)


def _whole(values: Field) -> Stored:
    return np.clip(np.floor(values + 0.5), 0, MAX_STORED).astype(np.uint16)
