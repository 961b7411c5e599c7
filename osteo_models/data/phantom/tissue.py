"""What tissues look like: T1 signal (arbitrary units) and Hounsfield units, and what bone density does to bone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from osteo_models.data.phantom.anatomy import Anatomy, Vertebra
from osteo_models.terms import Modality


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
