"""What tissues look like: T1 signal (arbitrary units) and Hounsfield units, and what bone density does to bone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from osteo_models.core.terms import Modality
from osteo_models.phantom.anatomy import COLUMNS, ROWS, Anatomy, Vertebra
from osteo_models.phantom.random_fields import Draws, Field, blur3
from osteo_models.phantom.scene import rise

Stored = npt.NDArray[np.uint16]
MAX_STORED: Final = 4095  # 12 bits
RESCALE_INTERCEPT: Final = -1024


@dataclass(frozen=True)
class Palette:
    """Mean values of the soft tissues of one modality."""

    air: float
    fat: float
    muscle: float
    organ: float
    gas: float
    vessel: float
    disc: float
    annulus: float
    dural_sac: float
    cord: float
    ligament: float
    skin: float
    cortex: float
    crust: float


# T1: fat is bright, water dark, cortical bone, ligaments and flowing blood nearly black.
MR: Final = Palette(
    air=0.0, fat=900.0, muscle=250.0, organ=270.0, gas=12.0, vessel=95.0, disc=225.0, annulus=150.0,
    dural_sac=165.0, cord=215.0, ligament=70.0, skin=330.0, cortex=45.0, crust=40.0,
)  # fmt: skip
CT: Final = Palette(
    air=-1000.0, fat=-105.0, muscle=55.0, organ=38.0, gas=-820.0, vessel=46.0, disc=82.0, annulus=98.0,
    dural_sac=18.0, cord=38.0, ligament=65.0, skin=25.0, cortex=800.0, crust=520.0,
)  # fmt: skip
PALETTES: Final[dict[Modality, Palette]] = {"mri": MR, "ct": CT}


@dataclass(frozen=True)
class Bone:
    """The bone of one vertebra.

    Args:
        inside: Marrow signal on T1, trabecular HU on CT.
        rim: What the cortex adds to `inside` at its crest (below 0 on T1: cortex gives no signal).
        width: Half width in mm of the rim as imaged.
        grain: Standard deviation of the texture.
    """

    inside: float
    rim: float
    width: float
    grain: float


def bone_of(vertebra: Vertebra, anatomy: Anatomy, modality: Modality) -> Bone:
    """Bone after density (T-score of the level), the person's own deviation, and, on T1, age."""
    density = vertebra.density
    cortex = max(0.2, 0.66 + 0.10 * density + 0.045 * anatomy.cortex_shift)
    if modality == "ct":
        inside = max(15.0, 188.0 + 34.0 * density + 10.0 * anatomy.trabecular_shift)
        return Bone(inside, 760.0 * cortex, 1.25, 0.10 * inside + 5.0 * max(0.0, -density))
    # Lost trabeculae are replaced by fat; marrow turns fatty with age too.
    fat = 0.31 - 0.048 * density + 0.06 * anatomy.wear + 0.055 * anatomy.marrow_shift
    inside = 160.0 + 620.0 * min(0.85, max(0.08, fat))
    return Bone(inside, (MR.cortex - inside) * min(1.0, 1.35 * cortex), 1.15, 0.05 * inside + 4.0)


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
