"""Painting a slice from the back of the scene to the front: soft tissue, canal, discs, vertebrae, arches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from osteo_models.data.phantom.anatomy import FIRST_LUMBAR, SACRUM, Anatomy, Vertebra
from osteo_models.data.phantom.arches import paint_arches
from osteo_models.data.phantom.draws import Field, smoothstep, step_between
from osteo_models.data.phantom.outline import body_outline, local_grid
from osteo_models.data.phantom.scene import Canvas, Volume, bump, cover, level_bumps, make_canvas, paint, rise
from osteo_models.data.phantom.tissue import PALETTES, Bone, Palette, bone_of
from osteo_models.terms import Modality


def render_slice(anatomy: Anatomy, volume: Volume, position: float, modality: Modality) -> Field:
    """The slice before noise: T1 signal without the coil's shading, or Hounsfield units.

    Shapes:
        returns (ROWS, COLUMNS).
    """
    palette = PALETTES[modality]
    canvas = make_canvas(anatomy, volume, position, palette.fat)
    _paint_front(canvas, anatomy, palette, modality, position)
    surface = _paint_back(canvas, anatomy, palette)
    _paint_canal(canvas, anatomy, palette, modality)
    for index in range(len(anatomy.vertebrae) - 1):
        _paint_disc(canvas, anatomy, index, palette, modality)
    _paint_ligaments(canvas, palette, modality)
    strut, patch = canvas.field("strut"), canvas.field("patch")
    for vertebra in anatomy.vertebrae:
        _paint_body(canvas, vertebra, anatomy, position, modality, (strut, patch))
    paint_arches(canvas, anatomy, position, modality)
    _paint_skin(canvas, surface, palette)
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
    margin = vertebra.lip + 6.0
    wide, tall = vertebra.depth + margin, vertebra.height + margin
    turned = abs(vertebra.sin)
    across, along = wide + tall * turned, tall + wide * turned
    return across, across, along, along


def _paint_front(canvas: Canvas, anatomy: Anatomy, palette: Palette, modality: Modality, position: float) -> None:
    """Bowel and organs in fat, then the great vessels along the column (vena cava right, aorta left)."""
    image, ahead = canvas.image, canvas.ahead
    organ, bowel = canvas.field("organ"), canvas.field("bowel")
    soft = rise(organ + bowel * 0.45, -0.32, 0.10) * rise(ahead, 5.0, 13.0)
    texture = bowel * (45.0 if modality == "mri" else 9.0) + canvas.field("lobule") * (28.0 if modality == "mri" else 4.0)
    paint(image, soft * 0.93, palette.organ + texture)
    gas = rise(organ - bowel * 0.5, 0.75, 0.95) * rise(ahead, 34.0, 48.0)
    paint(image, gas, palette.gas)
    ends = anatomy.vertebrae[FIRST_LUMBAR + 3].y + anatomy.vertebrae[FIRST_LUMBAR + 3].height
    side = 9.0 if position >= -2 else -13.0
    width = 10.5 * max(0.0, 1.0 - ((position - side) / 13.0) * ((position - side) / 13.0))
    if width > 1.5:
        centre = 8.0 + 10.0 * 0.9
        wall = (width + canvas.field("ripple_x") * 0.8) - np.abs(ahead - centre)
        above = 1.0 - rise(canvas.y, ends - 6, ends + 6)
        paint(image, cover(wall + 1.2) * above, palette.ligament)
        paint(image, cover(wall) * above, palette.vessel)
        if anatomy.calcified and side > 0:
            crust = bump(wall, 0.0, 1.6) * above * rise(canvas.field("patch"), 0.25, 0.7)
            paint(image, crust, palette.cortex)


def _paint_back(canvas: Canvas, anatomy: Anatomy, palette: Palette) -> Field:
    """Muscle with fatty streaks behind the canal, fascia, subcutaneous fat; returns the depth below the skin."""
    image, lateral = canvas.image, np.abs(canvas.lateral)
    last = anatomy.vertebrae[SACRUM]
    fascia_line = anatomy.fascia - 17.0 * smoothstep((canvas.lines_y - (last.y - 25.0)) * (1 / 75.0))
    smooth = canvas.back_line
    for _ in range(4):  # the back is flatter than the column: running means over 4 cm, in whole thousandths of a mm
        smooth = _running_mean(smooth, int(20 / anatomy.spacing))
    fascia_depth = (smooth + fascia_line)[:, None] - canvas.x
    midline = (1.0 - rise(lateral, 3.0, 8.0))[:, None]
    streak, lobule = canvas.field("streak"), canvas.field("lobule")
    limit = 0.62 - 1.0 * anatomy.muscle_fat - 0.30 * midline
    fatty = rise(streak + lobule * 0.55 - limit, -0.12, 0.5)
    value = palette.muscle + (palette.fat - palette.muscle) * (fatty * 0.8)
    behind = rise(canvas.behind, anatomy.canal - 1.0, anatomy.canal + 1.5)
    paint(image, behind * cover(fascia_depth), value)
    paint(image, bump(fascia_depth, 0.0, 1.5) * behind * 0.8, palette.ligament)
    thick = anatomy.subcutaneous * (1.0 + 0.5 * smoothstep((canvas.lines_y - (last.y - 60.0)) * (1 / 110.0)))
    surface = fascia_depth + thick[:, None]
    septa = rise(np.abs(canvas.field("ripple_y") + lobule * 0.6), 0.0, 0.22)
    under = cover(-fascia_depth - 0.5)
    paint(image, under, palette.fat + (palette.muscle - palette.fat) * 0.22 * (1.0 - septa))
    return surface


def _running_mean(line: Field, half: int) -> Field:
    """In whole numbers, so that the order of the additions does not matter."""
    whole = np.floor(line * 1000 + 0.5).astype(np.int64)
    padded = np.concatenate([np.repeat(whole[:1], half + 1), whole, np.repeat(whole[-1:], half)])
    total = np.cumsum(padded)
    return ((total[2 * half + 1 :] - total[: -2 * half - 1]) // (2 * half + 1)).astype(np.float32) / np.float32(1000)


def _paint_skin(canvas: Canvas, surface: Field, palette: Palette) -> None:
    paint(canvas.image, bump(surface, 0.8, 1.8) * 0.8, palette.skin)
    paint(canvas.image, cover(-surface), palette.air)


def _paint_canal(canvas: Canvas, anatomy: Anatomy, palette: Palette, modality: Modality) -> None:
    """The dural sac with cord and roots, fat around it; beside the canal, fat of the foramina."""
    image, behind = canvas.image, canvas.behind
    inside = (1.0 - rise(np.abs(canvas.lateral), 8.0, 11.5))[:, None]
    sacrum, conus = anatomy.vertebrae[SACRUM], anatomy.vertebrae[FIRST_LUMBAR]
    lower = smoothstep((canvas.lines_y - (sacrum.y - 24.0)) * (1 / 60.0))[:, None]
    width = anatomy.canal * (1.0 - 0.35 * lower)
    space = cover(behind + 0.5) * cover(width - behind)
    paint(image, space, palette.fat)
    gaps = level_bumps(canvas, anatomy, 13.0)[:, None]
    front = 0.6 + 5.0 * lower
    rear = width - 1.2 - 5.6 * gaps * (1.0 - 0.6 * lower)
    end = 1.0 - rise(canvas.y, sacrum.y + 14, sacrum.y + 30)
    sac = cover(behind - front) * cover(rear - behind) * inside * end
    paint(image, sac, palette.dural_sac)
    above = 1.0 - rise(canvas.y, conus.y - 4, conus.y + 26)
    cord = bump(behind, anatomy.canal * 0.5, 6.0) * above + bump(behind, anatomy.canal * 0.62, 5.0) * 0.45 * (1 - above)
    paint(image, cord * sac, palette.cord)
    flavum = bump(behind, 0.0, 1.0) if modality == "mri" else np.zeros_like(behind)
    paint(image, flavum * 0.75 * inside, palette.ligament)
    rim = (cover(behind - width) * cover(width + 2.6 - behind)) * inside * (0.35 + 0.65 * gaps)
    paint(image, rim, palette.ligament)
    for vertebra in anatomy.vertebrae[:SACRUM]:
        _paint_root(canvas, vertebra, anatomy, palette)


def _paint_root(canvas: Canvas, vertebra: Vertebra, anatomy: Anatomy, palette: Palette) -> None:
    """A nerve root in its foramen, below the pedicle."""
    middle = vertebra.y + 0.45 * vertebra.height
    row = min(len(canvas.lateral) - 1, max(0, int(middle / anatomy.spacing)))
    lateral = abs(float(canvas.lateral[row]))
    weight = step_between(lateral, 8.5, 12.0)
    if weight == 0:
        return
    grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, (0.0, 40.0, 20.0, 30.0))
    away_back, away_down = grid.back - (vertebra.depth + 6.0), grid.down - vertebra.height * 0.5
    nearness = 1.0 - (away_back * away_back * (1 / 14.0) + away_down * away_down * (1 / 22.0))
    paint(canvas.image[grid.window], smoothstep(nearness * 1.5 + 0.3) * weight, palette.muscle)


def _paint_disc(canvas: Canvas, anatomy: Anatomy, index: int, palette: Palette, modality: Modality) -> None:
    """Fill the gap between two bodies, which are painted over it."""
    upper, lower = anatomy.vertebrae[index], anatomy.vertebrae[index + 1]
    worn = anatomy.discs[index]
    grid = local_grid(upper, canvas.x, canvas.y, anatomy.spacing, (34.0, 34.0, 6.0, 46.0))
    x, y = canvas.x[grid.window], canvas.y[grid.window]
    cos, sin = (upper.cos + lower.cos) / 2, (upper.sin + lower.sin) / 2
    from_x = (upper.x - upper.sin * upper.height + lower.x + lower.sin * lower.height) / 2
    from_y = (upper.y + upper.cos * upper.height + lower.y - lower.cos * lower.height) / 2
    back, down = (x - from_x) * cos + (y - from_y) * sin, (y - from_y) * cos - (x - from_x) * sin
    wide = (upper.depth + lower.depth) / 2 + (0.2 + 2.0 * worn if index < SACRUM else -1.0)
    shape = cover(wide - np.abs(back)) * cover(11.0 - np.abs(down))
    centre = bump(back, 1.0, wide * 0.95)
    value = palette.annulus + (palette.disc - palette.annulus) * centre * (1.0 - 0.35 * worn)
    if modality == "mri":
        value = value + canvas.field("lobule")[grid.window] * 14.0
    paint(canvas.image[grid.window], shape, value)
    if worn > 0.72 and modality == "ct":  # gas in a worn disc
        gas = bump(down, 0.0, 1.6) * bump(back, -2.0, wide * 0.6) * (worn - 0.72) * 3.0
        paint(canvas.image[grid.window], np.minimum(gas, 1.0), -320.0)


def _paint_ligaments(canvas: Canvas, palette: Palette, modality: Modality) -> None:
    """The dark bands along the front and the rear of the column on T1."""
    if modality == "mri":
        paint(canvas.image, bump(canvas.ahead, 0.8, 1.5) * 0.6, palette.ligament)


def _paint_body(
    canvas: Canvas, vertebra: Vertebra, anatomy: Anatomy, position: float, modality: Modality, noise: tuple[Field, Field]
) -> None:
    lateral = position - vertebra.lateral
    bone = bone_of(vertebra, anatomy, modality)
    grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, _reach(vertebra))
    if grid.back.size == 0:
        return
    outline, plates = body_outline(vertebra, grid, lateral)
    strut, patch = noise[0][grid.window], noise[1][grid.window]
    value = bone.inside + (strut + patch * 0.7) * bone.grain
    if modality == "ct":
        value = value + bump(plates, 1.0, 5.0) * (130.0 * anatomy.sclerosis)
        value = _add_rim(value, outline, plates, bone, strut)
    else:
        value = value + rise(patch, 0.55, 1.3) * (60.0 + 90.0 * anatomy.wear)
        value = value + bump(plates, 2.0, 5.0) * (110.0 * anatomy.sclerosis) * rise(strut + patch, -0.3, 0.8)
        value = _add_vein(value, vertebra, grid.back, grid.down, lateral, strut)
        value = _add_rim(value, outline, plates, bone, strut)
    paint(canvas.image[grid.window], cover(outline + 0.4), value)


def _add_rim(value: Field, outline: Field, plates: Field, bone: Bone, strut: Field) -> Field:
    """The cortex: a crest just inside the outline, denser along the end plates."""
    crest = bump(outline, 0.45, bone.width + 0.25) * (0.68 + 0.32 * bump(plates, 0.4, 2.6)) * (1.0 + 0.16 * strut)
    return value + crest * bone.rim


def _add_vein(value: Field, vertebra: Vertebra, back: Field, down: Field, lateral: float, strut: Field) -> Field:
    """The basivertebral vein: a bright sleeve of fat with a dark core, from the rear wall to the middle."""
    near = 1.0 - step_between(abs(lateral), 3.0, 9.0)
    if near == 0 or vertebra.name in ("S2", "S3"):
        return value
    reach = rise(back, vertebra.depth * 0.05, vertebra.depth * 0.5)
    wander = down + strut * 1.1 - 0.6
    sleeve = bump(wander, 0.0, 3.4) * reach * near
    core = bump(wander, 0.0, 1.3) * reach * near * rise(strut, -0.5, 0.3)
    value = value + sleeve * 150.0
    return value - core * 230.0



