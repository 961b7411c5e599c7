"""Painting a slice from the back of the scene to the front: soft tissue, canal, discs, vertebral bodies, arches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from osteo_models.data.phantom.anatomy import FIRST_LUMBAR, SACRUM, Anatomy, Vertebra
from osteo_models.data.phantom.arches import paint_arches
from osteo_models.data.phantom.draws import Field, step_between
from osteo_models.data.phantom.outline import body_outline, local_grid
from osteo_models.data.phantom.scene import Canvas, Volume, bump, cover, make_canvas, paint, rise
from osteo_models.data.phantom.soft import paint_back, paint_canal, paint_disc, paint_front, paint_skin
from osteo_models.data.phantom.tissue import PALETTES, Bone, bone_of
from osteo_models.terms import Modality


def render_slice(anatomy: Anatomy, volume: Volume, position: float, modality: Modality) -> Field:
    """The slice before noise: T1 signal without the coil's shading, or Hounsfield units.

    Shapes:
        returns (ROWS, COLUMNS).
    """
    palette = PALETTES[modality]
    canvas = make_canvas(anatomy, volume, position, palette.fat)
    paint_front(canvas, anatomy, palette, modality, position)
    surface = paint_back(canvas, anatomy, palette)
    paint_canal(canvas, anatomy, palette, modality)
    for index in range(len(anatomy.vertebrae) - 1):
        paint_disc(canvas, anatomy, index, palette, modality)
    for vertebra in anatomy.vertebrae:
        _paint_body(canvas, vertebra, anatomy, position, modality)
    paint_arches(canvas, anatomy, position, modality)
    paint_skin(canvas, surface, palette)
    return canvas.image


def label_bodies(anatomy: Anatomy, volume: Volume, position: float) -> npt.NDArray[np.uint8]:
    """Which lumbar body a pixel lies in: 1 to 5 for L1 to L5, 0 elsewhere."""
    canvas = make_canvas(anatomy, volume, position, 0.0)
    labels = np.zeros(canvas.image.shape, dtype=np.uint8)
    for level, vertebra in enumerate(anatomy.vertebrae[FIRST_LUMBAR:SACRUM], start=1):
        grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, _reach(vertebra))
        outline, _ = body_outline(vertebra, grid, position - vertebra.lateral)
        labels[grid.window][outline > 0] = level
    return labels


def _reach(vertebra: Vertebra) -> tuple[float, float, float, float]:
    wide, tall = vertebra.depth + vertebra.lip + 5.0, vertebra.height + 4.0
    turned = abs(vertebra.sin)
    across, along = wide + tall * turned, tall + wide * turned
    return across, across, along, along


def _paint_body(canvas: Canvas, vertebra: Vertebra, anatomy: Anatomy, position: float, modality: Modality) -> None:
    grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, _reach(vertebra))
    if grid.back.size == 0:
        return
    bone, lateral = bone_of(vertebra, anatomy, modality), position - vertebra.lateral
    outline, plates = body_outline(vertebra, grid, lateral)
    strut, patch = canvas.field("strut", grid.window), canvas.field("patch", grid.window)
    value = (strut + patch * 0.7) * bone.grain + bone.inside
    if modality == "ct":
        value += bump(plates, 1.0, 5.0) * (130.0 * anatomy.sclerosis)
    else:
        value += rise(patch, 0.55, 1.3) * (60.0 + 90.0 * anatomy.wear)
        value += bump(plates, 2.0, 5.0) * rise(strut + patch, -0.3, 0.8) * (110.0 * anatomy.sclerosis)
        if vertebra.name not in ("S2", "S3"):
            _add_vein(value, vertebra, grid.back, grid.down + strut * 1.1 - 0.6, lateral, strut)
    _add_rim(value, outline, plates, bone, strut)
    paint(canvas.image[grid.window], cover(outline + 0.4), value)


def _add_rim(value: Field, outline: Field, plates: Field, bone: Bone, strut: Field) -> None:
    """The cortex: a crest just inside the outline, denser along the end plates."""
    crest = bump(outline, 0.45, bone.width + 0.25)
    crest *= bump(plates, 0.4, 2.6) * 0.32 + 0.68
    crest *= strut * 0.16 + 1.0
    value += crest * bone.rim


def _add_vein(value: Field, vertebra: Vertebra, back: Field, wander: Field, lateral: float, strut: Field) -> None:
    """The basivertebral vein: a bright sleeve of fat with a dark core, from the rear wall to the middle."""
    near = 1.0 - step_between(abs(lateral), 3.0, 9.0)
    if near == 0:
        return
    reach = rise(back, vertebra.depth * 0.05, vertebra.depth * 0.5) * near
    value += bump(wander, 0.0, 3.4) * reach * 150.0
    value -= bump(wander, 0.0, 1.3) * reach * rise(strut, -0.5, 0.3) * 230.0
