"""From a person to a spine: where the vertebrae lie, how they are shaped, and what the tissues around them are like.

Two causes are kept apart. Bone density decides trabecular bone, cortex, marrow fat and fractures; age decides discs,
osteophytes, end plates, muscle and vessels as well, so that a network can score well without looking at bone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from osteo_models.phantom.population import Person
from osteo_models.phantom.random_fields import Draws, step_between

ROWS: Final = 320
COLUMNS: Final = 256
MR_SPACING_MM: Final = 300 / ROWS  # field of view 30 cm
CT_SPACINGS_MM: Final = (0.875, 0.90625, 0.9375, 0.96875)
MR_SLICE_MM, MR_GAP_MM, CT_SLICE_MM = 3.5, 0.7, 3.0

NAMES: Final = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2", "S3")
FIRST_LUMBAR: Final = 3
MIDDLE: Final = 5  # L3, from which the column is built both ways
SACRUM: Final = 8
# Half tangents of the tilt (down axis towards the front), half depths and half heights, and the disc below, in mm.
_TILT: Final = (0.06, 0.085, 0.10, 0.10, 0.085, 0.045, -0.02, -0.13, -0.34, -0.42, -0.36)
_DEPTH: Final = (14.2, 14.8, 15.6, 16.2, 16.8, 17.2, 17.4, 17.2, 15.6, 11.5, 9.0)
_HEIGHT: Final = (11.0, 11.6, 12.4, 13.0, 13.4, 13.6, 13.5, 13.4, 14.0, 11.0, 9.0)
_DISC: Final = (5.0, 5.6, 6.6, 7.8, 9.0, 10.0, 10.8, 10.0, 2.2, 1.6)


@dataclass(frozen=True)
class Vertebra:
    """One vertebral body in the sagittal plane; x runs to the back, y to the feet.

    Args:
        lateral: Its middle in mm to the patient's left (a curved spine leaves the plane of the slice).
        cos, sin: Of its tilt; the down axis is (-sin, cos), the back axis (cos, sin).
        depth, height: Halves of the body in mm.
        wedge: Share of the front height that is lost.
        bow: Depth in mm of the upper and the lower end plate's hollow.
        lip: Length in mm of osteophytes at the rims.
        density: T-score of this level.
    """

    name: str
    x: float
    y: float
    lateral: float
    cos: float
    sin: float
    depth: float
    height: float
    wedge: float
    bow: tuple[float, float]
    waist: float
    taper: float
    lip: float
    density: float
    process: float


@dataclass(frozen=True)
class Anatomy:
    """What all slices of a person share; shares run from 0 to 1, lengths are in mm.

    Args:
        discs: Degeneration of the disc below each vertebra.
        wear: Age's part in what is not bone density.
        positions: Of the slices, in mm to the left of the middle.
    """

    vertebrae: tuple[Vertebra, ...]
    discs: tuple[float, ...]
    wear: float
    size: float
    canal: float
    fascia: float
    subcutaneous: float
    muscle_fat: float
    sclerosis: float
    calcified: bool
    marrow_shift: float
    trabecular_shift: float
    cortex_shift: float
    spacing: float
    slice_step: float
    positions: tuple[float, ...]


def make_anatomy(person: Person, seed: int) -> Anatomy:
    """The anatomy of a person, the same on every call."""
    draws = Draws(seed, "anatomy", person.patient_id)
    wear = min(1.15, max(0.0, (person.age_years - 24) / 62 + draws.normal(0.0, 0.18)))
    size = draws.normal(1.04 if person.sex == "M" else 0.97, 0.035)
    discs = tuple(min(1.0, max(0.0, 0.08 + wear * draws.uniform(0.2, 1.0) + draws.normal(0.0, 0.15))) for _ in _DISC)
    spacing = MR_SPACING_MM if person.modality == "mri" else CT_SPACINGS_MM[draws.integer(0, 3)]
    step = MR_SLICE_MM + MR_GAP_MM if person.modality == "mri" else CT_SLICE_MM
    middle = draws.normal(0.0, 1.5)
    return Anatomy(
        vertebrae=_column(person, draws, wear, size, discs, spacing),
        discs=discs,
        wear=wear,
        size=size,
        canal=draws.normal(16.5, 1.2) * size - 1.5 * wear,
        fascia=draws.normal(52.0, 3.5) * size,
        subcutaneous=max(7.0, draws.normal(19.0 if person.sex == "F" else 15.0, 6.0)),
        muscle_fat=min(1.0, max(0.05, 0.14 + 0.36 * wear + draws.normal(0.0, 0.16))),
        sclerosis=max(0.0, wear * draws.uniform(0.1, 1.0)),
        calcified=draws.chance(step_between(wear, 0.35, 1.0) * 0.8),
        marrow_shift=draws.normal(0.0, 1.0),
        trabecular_shift=draws.normal(0.0, 1.0),
        cortex_shift=draws.normal(0.0, 1.0),
        spacing=spacing,
        slice_step=step,
        positions=tuple((number - (person.slices - 1) / 2) * step + middle for number in range(person.slices)),
    )


def _column(
    person: Person, draws: Draws, wear: float, size: float, discs: tuple[float, ...], spacing: float
) -> tuple[Vertebra, ...]:
    """Vertebrae placed one after the other, from L3 upwards and downwards."""
    lordosis, lean = draws.normal(1.0 - 0.15 * wear, 0.16), draws.normal(0.0, 0.025)
    bend, drift = draws.normal(0.0, 0.00022), draws.normal(0.0, 0.018)
    half_tangents = [tilt * lordosis + lean + draws.normal(0.0, 0.008) for tilt in _TILT]
    turns = [_turn(half_tangent) for half_tangent in half_tangents]
    heights = [height * size * draws.normal(1.0, 0.015) for height in _HEIGHT]
    gaps = [gap * size * (1 - 0.42 * worn) * draws.normal(1.0, 0.05) for gap, worn in zip(_DISC, discs, strict=True)]
    middle_x = spacing * COLUMNS * 0.47 + draws.normal(0.0, 5.0)
    centres = {MIDDLE: (middle_x, spacing * ROWS / 2 + draws.normal(4.0, 6.0))}
    for upper in [*range(MIDDLE - 1, -1, -1), *range(MIDDLE, len(NAMES) - 1)]:
        known, other, sign = (upper + 1, upper, -1) if upper < MIDDLE else (upper, upper + 1, 1)
        (x, y), (cos, sin), (next_cos, next_sin) = centres[known], turns[known], turns[other]
        half_gap = gaps[upper] / 2
        first, second = heights[known] + half_gap, heights[other] + half_gap
        centres[other] = (x - sign * (sin * first + next_sin * second), y + sign * (cos * first + next_cos * second))
    vertebrae: list[Vertebra] = []
    for index, name in enumerate(NAMES):
        (x, y), away = centres[index], centres[index][1] - centres[MIDDLE][1]
        density = _level_density(person, index, draws)
        wedge, bow = _deformity(density, index, draws)
        vertebrae.append(
            Vertebra(
                name=name,
                x=x,
                y=y,
                lateral=bend * away * away + drift * away,
                cos=turns[index][0],
                sin=turns[index][1],
                depth=_DEPTH[index] * size * draws.normal(1.0, 0.012),
                height=heights[index],
                wedge=wedge - (0.10 if name == "L5" else 0.0),
                bow=bow,
                waist=draws.uniform(0.06, 0.11) if index < SACRUM else 0.02,
                taper=0.0 if index < SACRUM else -0.16,
                lip=max(0.0, draws.normal(0.4, 0.4) + 3.6 * max(0.0, wear - 0.25) * draws.uniform(0.1, 1.0)),
                density=density,
                process=draws.normal(1.0, 0.09),
            )
        )
    return tuple(vertebrae)


def _turn(half_tangent: float) -> tuple[float, float]:
    """Cosine and sine by the rational parametrisation of the circle, which needs no trigonometric function."""
    square = half_tangent * half_tangent
    return (1 - square) / (1 + square), 2 * half_tangent / (1 + square)


def _level_density(person: Person, index: int, draws: Draws) -> float:
    level = index - FIRST_LUMBAR
    offset = draws.normal(0.0, 0.2)
    if person.t_tenths and 0 <= level < len(person.t_tenths):
        return person.t_tenths[level] / 10
    return person.density + offset


def _deformity(density: float, index: int, draws: Draws) -> tuple[float, tuple[float, float]]:
    """Wedge and hollow: both grow as bone is lost, and some vertebrae have collapsed."""
    loss = max(0.0, -density - 0.8)
    wedge, hollow = draws.normal(0.02, 0.015), draws.normal(1.7, 0.3) + 0.35 * loss
    upper, lower = hollow * draws.uniform(0.75, 1.15), hollow * draws.uniform(0.8, 1.25)
    kind, depth, broken = draws.uniform(), draws.uniform(0.5, 1.0), draws.chance(0.01 + 0.055 * loss)
    if index >= SACRUM:
        return 0.0, (max(0.3, upper * 0.6), 0.3)
    if broken and kind < 0.5:
        wedge += 0.34 * depth
    elif broken:
        upper, lower = upper + 3.6 * depth, lower + 2.6 * depth
    return wedge, (max(0.4, upper), max(0.4, lower))
