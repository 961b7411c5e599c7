"""The posterior elements: spinous process and laminae near the middle, pedicles and articular masses beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from osteo_models.data.phantom.anatomy import SACRUM, Anatomy, Vertebra
from osteo_models.data.phantom.draws import Field, step_between
from osteo_models.data.phantom.outline import LocalGrid, box_outline, local_grid, mass_outline
from osteo_models.data.phantom.scene import Canvas, bump, cover, paint
from osteo_models.data.phantom.tissue import Bone, bone_of
from osteo_models.terms import Modality


@dataclass(frozen=True)
class Part:
    """One piece of an arch: its outline, how much of the slice's thickness it fills, how dense it is."""

    outline: Field
    weight: float
    dense: float


def paint_arches(canvas: Canvas, anatomy: Anatomy, position: float, modality: Modality) -> None:
    """Paint the posterior elements of all vertebrae, from above."""
    strut, patch = canvas.field("strut"), canvas.field("patch")
    for index, vertebra in enumerate(anatomy.vertebrae[: SACRUM + 1]):
        reach = (0.0, vertebra.depth + anatomy.canal + 50.0, vertebra.height + 16.0, vertebra.height + 42.0)
        grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, reach)
        if grid.back.size == 0:
            continue
        bone = bone_of(vertebra, anatomy, modality)
        noise = (strut + patch * 0.8)[grid.window]
        for part in _parts(grid, vertebra, anatomy, position - vertebra.lateral, index):
            if part.weight > 0:
                _paint_part(canvas.image[grid.window], part, bone, noise, modality)


def _parts(grid: LocalGrid, vertebra: Vertebra, anatomy: Anatomy, lateral: float, index: int) -> list[Part]:
    away, rear = abs(lateral), vertebra.depth + anatomy.canal
    size, height = anatomy.size * vertebra.process, vertebra.height
    middle = 1.0 - step_between(away, 3.2, 6.8)
    lamina = step_between(away, 0.5, 3.5) * (1.0 - step_between(away, 11.0, 14.5))
    pedicle = step_between(away, 7.5, 11.0) * (1.0 - step_between(away, 17.0, 21.0))
    mass = step_between(away, 9.0, 13.5) * (1.0 - step_between(away, 20.0, 25.0))
    if index == SACRUM:
        crest = box_outline(grid, (rear - 1.0, rear + 13.0 * size), (-3.0, 8.0), (0.1, 0.3), 3.0)
        return [Part(crest, middle, 0.6)]
    long = (30.0 if index > 2 else 34.0) * size * (0.72 if index == SACRUM - 1 else 1.0)
    top, bottom = (1.0, 17.0) if index > 2 else (6.0, 15.0)
    slope = 0.10 if index > 2 else 0.45
    spine = box_outline(
        grid, (rear - 0.5, rear + long), (top * size, bottom * size), (slope, slope + 0.18), 5.5
    )
    swell = bump(grid.back, rear + long * 0.8, 11.0) * 1.6
    tilted = replace(grid, back=grid.back - 0.32 * (grid.down - 10.0))
    plate = box_outline(tilted, (rear - 1.2, rear + 6.3), (0.5, 20.0 * size), (0.0, 0.0), 3.0)
    bridge = box_outline(
        grid, (vertebra.depth - 4.0, rear + 3.0), (-0.78 * height, -0.02 * height), (0.06, -0.08), 4.0
    )
    column = mass_outline(grid, vertebra.depth + 15.0, 0.20, 6.4, (-1.15 * height, 1.75 * height))
    return [Part(bridge, pedicle, 0.25), Part(column, mass, 0.7), Part(plate, lamina, 1.0), Part(spine + swell, middle, 0.45)]


def _paint_part(view: Field, part: Part, bone: Bone, noise: Field, modality: Modality) -> None:
    """Cortical bone is thick in the arches: laminae and facets are the densest of it."""
    dense = part.dense
    if modality == "ct":
        inside = bone.inside * 0.95 + dense * (110.0 + bone.rim * 0.35)
        rim, width = bone.rim * (1.05 + 0.35 * dense), bone.width + 0.6 + 1.2 * dense
    else:
        inside = bone.inside * (1.05 - 0.3 * dense)
        rim, width = bone.rim * (1 - 0.3 * dense), bone.width + 0.3 + 0.5 * dense
    value = inside + noise * (bone.grain * (1.6 + 2.2 * dense)) + bump(part.outline, 0.6, width) * rim
    paint(view, cover(part.outline + 0.3) * part.weight, value)


