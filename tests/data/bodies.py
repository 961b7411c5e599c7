"""Drawn stand-ins for sagittal slices: a curved column of blocks before a bright back, alike but never the same."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def draw_bodies(modality: str, *, patients: int, each: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Images (patients * each, 80, 60), and whose they are; CT has bright bodies on grey, MRI dark ones on bright."""
    rng = np.random.default_rng((seed, modality == "ct"))
    rows, columns = np.mgrid[0:80, 0:60].astype(np.float64)
    images, names = [], []
    for patient in range(patients):
        middle, bend, size, back = 27 + rng.normal(0, 1.5), rng.normal(6, 1.0), rng.normal(15, 0.7), rng.normal(48, 1.0)
        for _ in range(each):
            axis = middle + bend * np.sin(rows / 80 * 2.4) + rng.normal(0, 0.3)
            block = (np.mod(rows + rng.normal(0, 0.5), size) > 3.5) & (np.abs(columns - axis) < 7 + rows / 20)
            fat = columns > back + rng.normal(0, 0.3) - rows / 12
            if modality == "ct":
                image = 40 + 170 * block + 60 * fat * (rows > 20)
            else:
                image = 130 - 70 * block + 90 * fat - rows / 2
            clouds = sum(gaussian_filter(rng.normal(size=image.shape), width) * width for width in (2, 4, 8))
            image = gaussian_filter(image, 0.8) * rng.normal(1, 0.03) + 20 * clouds + rng.normal(0, 4, image.shape)
            images.append(np.clip(image, 0, 255).astype(np.uint8))
            names.append(f"{modality}-{seed}-{patient}")
    return np.stack(images), names
