"""Painting a slice from the back of the scene to the front: soft tissue, canal, discs, vertebral bodies, arches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from osteo_models.core.terms import Modality
from osteo_models.phantom.anatomy import COLUMNS, FIRST_LUMBAR, SACRUM, Anatomy, Vertebra
from osteo_models.phantom.outlines import LocalGrid, body_outline, local_grid, paint_arches
from osteo_models.phantom.random_fields import Field, smoothstep, step_between
from osteo_models.phantom.scene import Canvas, Volume, bump, cover, level_bumps, make_canvas, paint, rise, running_mean
from osteo_models.phantom.tissue import PALETTES, Bone, Palette, bone_of


def paint_front(canvas: Canvas, anatomy: Anatomy, palette: Palette, modality: Modality, position: float) -> None:
    """Bowel and organs in fat, then the great vessels along the column."""
    window = canvas.band(0.0, float(canvas.front_line.max()) + 6.0)
    image, ahead = canvas.image[window], canvas.ahead(window)
    organ, bowel, ripple = (canvas.field(name, window) for name in ("organ", "bowel", "ripple_x"))
    # Fat lies between the column and the organs, in a layer of uneven depth.
    uneven = ahead + organ * 7.0 + bowel * 5.0
    shape = organ + bowel * 0.55 + ripple * 0.12
    soft = rise(shape, -0.50, 0.16) * rise(uneven, 3.0, 11.0)
    scale = 70.0 if modality == "mri" else 11.0
    paint(image, soft * 0.94, bowel * scale + (ripple * (scale * 0.35) + palette.organ))
    gas = rise(organ - bowel * 0.6, 0.95, 1.15) * rise(ahead, 40.0, 52.0)
    paint(image, gas, palette.gas)
    _paint_vessel(canvas, anatomy, palette, position)
    if modality == "mri":  # the ligament along the front is a dark band on T1
        paint(image, bump(ahead, 0.8, 1.5) * 0.6, palette.ligament)


def _paint_vessel(canvas: Canvas, anatomy: Anatomy, palette: Palette, position: float) -> None:
    """Vena cava on the right, aorta on the left, both winding in and out of the slice, down to L4."""
    window = canvas.band(float(canvas.front_line.min()) - 40.0, float(canvas.front_line.max()) + 2.0)
    last = anatomy.vertebrae[FIRST_LUMBAR + 3]
    side = 9.0 if position >= -2 else -13.0
    wander = canvas.field("bend_x", (window[0], slice(60, 61))) * 9.0
    away = (position - side - wander) * (1 / 12.5)
    radius = np.maximum(1.0 - away * away, 0.0) * (7.0 + 2.0 * anatomy.size)
    radius *= 1.0 - rise(canvas.rows_mm[:, None], last.y - 8, last.y + 10)
    depth = 13.0 + canvas.field("bend_y", (window[0], slice(90, 91))) * 4.0
    wall = radius - np.abs(canvas.ahead(window) - depth) + canvas.field("ripple_y", window) * 0.9
    thick = rise(radius, 1.0, 4.0)
    image = canvas.image[window]
    paint(image, cover(wall + 1.0) * thick, palette.ligament)
    paint(image, cover(wall) * thick, palette.vessel + canvas.field("bowel", window) * (palette.vessel * 0.35))
    if anatomy.calcified and side > 0:
        paint(image, bump(wall, 0.0, 1.6) * thick * rise(canvas.field("patch", window), 0.35, 0.8), palette.crust)


def paint_back(canvas: Canvas, anatomy: Anatomy, palette: Palette) -> Field:
    """Muscle with fatty streaks behind the canal, fascia, subcutaneous fat.

    Shapes:
        returns (ROWS, COLUMNS): mm below the skin.
    """
    last = anatomy.vertebrae[SACRUM]
    fascia = anatomy.fascia - 17.0 * smoothstep((canvas.rows_mm - (last.y - 25.0)) * (1 / 75.0))
    flat = canvas.back_line
    for _ in range(4):  # the back is flatter than the column
        flat = running_mean(flat, int(20 / anatomy.spacing))
    window = canvas.band(float(canvas.back_line.min()) + anatomy.canal - 6.0, 1e6)
    image = canvas.image[window]
    inward = (flat + fascia)[:, None] - canvas.x[window]
    middle = (1.0 - rise(np.abs(canvas.lateral), 3.0, 8.0))[:, None]
    streak, lobule = canvas.field("streak", window), canvas.field("lobule", window)
    limit = 0.66 - 1.0 * anatomy.muscle_fat - 0.30 * middle
    fatty = rise(streak + lobule * 0.8 - limit, -0.45, 0.95)
    behind = rise(canvas.behind(window), anatomy.canal - 1.0, anatomy.canal + 1.5)
    muscle = palette.muscle + (palette.fat - palette.muscle) * 0.10 * streak
    paint(image, behind * cover(inward), muscle + (palette.fat - palette.muscle) * (fatty * (0.75 - 0.2 * middle)))
    paint(image, bump(inward, 0.0, 1.5) * behind * 0.75, palette.ligament)
    thick = anatomy.subcutaneous * (1.0 + 0.5 * smoothstep((canvas.rows_mm - (last.y - 60.0)) * (1 / 110.0)))
    septa = 1.0 - rise(np.abs(canvas.field("ripple_y", window) + lobule * 0.6), 0.0, 0.22)
    paint(image, cover(-inward - 0.5), septa * ((palette.muscle - palette.fat) * 0.2) + palette.fat)
    return (flat + fascia + thick)[:, None] - canvas.x


def paint_skin(canvas: Canvas, surface: Field, palette: Palette) -> None:
    """The skin, and air outside the body."""
    window = (slice(None), slice(COLUMNS // 2, COLUMNS))
    depth, image = surface[window], canvas.image[window]
    paint(image, bump(depth, 0.8, 1.8) * 0.8, palette.skin)
    paint(image, cover(-depth), palette.air)


def paint_canal(canvas: Canvas, anatomy: Anatomy, palette: Palette, modality: Modality) -> None:
    """The dural sac with cord and roots, and fat around it; beside the canal, the fat of the foramina."""
    window = canvas.band(float(canvas.back_line.min()) - 5.0, float(canvas.back_line.max()) + anatomy.canal * 1.5 + 6)
    image, behind, y = canvas.image[window], canvas.behind(window), canvas.rows_mm[:, None]
    inside = (1.0 - rise(np.abs(canvas.lateral), 8.0, 11.5))[:, None]
    sacrum, conus = anatomy.vertebrae[SACRUM], anatomy.vertebrae[FIRST_LUMBAR]
    lower = rise(y, sacrum.y - 24.0, sacrum.y + 36.0)
    width = anatomy.canal * (1.0 - 0.35 * lower)
    paint(image, cover(behind + 0.5) * cover(width - behind), palette.fat)
    gaps = level_bumps(canvas, anatomy, 14.0)
    uneven = canvas.field("lobule", window) * 0.8
    rear = width - 1.0 - 5.4 * gaps * (1.0 - 0.6 * lower) - behind + uneven * gaps
    end = inside * (1.0 - rise(y, sacrum.y + 14, sacrum.y + 30))
    sac = cover(behind - (0.6 + 5.0 * lower)) * cover(rear) * end
    paint(image, sac, palette.dural_sac)
    above = 1.0 - rise(y, conus.y - 4, conus.y + 26)
    cord, roots = bump(behind, anatomy.canal * 0.46, 6.0), bump(behind, anatomy.canal * 0.62, 5.0)
    paint(image, (cord * above + roots * (0.5 - 0.5 * above)) * sac, palette.cord)
    if modality == "mri":
        paint(image, bump(behind, 0.0, 1.0) * (0.75 * inside), palette.ligament)
    flavum = bump(behind - width, 1.3, 2.2) * (inside * (0.35 + 0.65 * gaps))
    paint(image, flavum, palette.ligament)
    for vertebra in anatomy.vertebrae[:SACRUM]:
        _paint_root(canvas, vertebra, anatomy, palette)


def _paint_root(canvas: Canvas, vertebra: Vertebra, anatomy: Anatomy, palette: Palette) -> None:
    """A nerve root in its foramen, below the pedicle."""
    row = min(len(canvas.lateral) - 1, max(0, int((vertebra.y + 0.45 * vertebra.height) / anatomy.spacing)))
    weight = step_between(abs(float(canvas.lateral[row])), 8.5, 12.0)
    if weight == 0:
        return
    grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, (-8.0, 40.0, 5.0, 30.0))
    away_back, away_down = grid.back - (vertebra.depth + 6.0), grid.down - vertebra.height * 0.5
    nearness = 1.0 - (away_back * away_back * (1 / 14.0) + away_down * away_down * (1 / 22.0))
    paint(canvas.image[grid.window], smoothstep(nearness * 1.5 + 0.3) * weight, palette.muscle)


def paint_disc(canvas: Canvas, anatomy: Anatomy, index: int, palette: Palette, modality: Modality) -> None:
    """Fill the gap between two bodies, which are painted over it."""
    upper, lower = anatomy.vertebrae[index], anatomy.vertebrae[index + 1]
    worn = anatomy.discs[index]
    grid = local_grid(upper, canvas.x, canvas.y, anatomy.spacing, (34.0, 32.0, -4.0, 40.0))
    if grid.back.size == 0:
        return
    x, y = canvas.x[grid.window], canvas.y[grid.window]
    cos, sin = (upper.cos + lower.cos) / 2, (upper.sin + lower.sin) / 2
    from_x = (upper.x - upper.sin * upper.height + lower.x + lower.sin * lower.height) / 2
    from_y = (upper.y + upper.cos * upper.height + lower.y - lower.cos * lower.height) / 2
    back, down = (x - from_x) * cos + (y - from_y) * sin, (y - from_y) * cos - (x - from_x) * sin
    wide = (upper.depth + lower.depth) / 2 + (0.2 + 2.0 * worn if index < SACRUM else -1.0)
    centre = bump(back, 1.0, wide * 0.95)
    value = palette.annulus + (palette.disc - palette.annulus) * (1.0 - 0.35 * worn) * centre
    if modality == "mri":
        value += canvas.field("lobule", grid.window) * 14.0
    paint(canvas.image[grid.window], cover(wide - np.abs(back)) * cover(11.0 - np.abs(down)), value)
    if worn > 0.72 and modality == "ct":  # gas in a worn disc
        gas = bump(down, 0.0, 1.6) * bump(back, -2.0, wide * 0.6) * ((worn - 0.72) * 3.0)
        paint(canvas.image[grid.window], np.minimum(gas, 1.0), -320.0)


def render_slice(
    anatomy: Anatomy, volume: Volume, position: float, modality: Modality
) -> tuple[Field, npt.NDArray[np.uint8]]:
    """The slice before noise (T1 signal without the coil's shading, or Hounsfield units), and its lumbar bodies.

    Shapes:
        returns twice (ROWS, COLUMNS); labels are 1 to 5 in the bodies of L1 to L5, 0 elsewhere.
    """
    palette = PALETTES[modality]
    canvas = make_canvas(anatomy, volume, position, palette.fat)
    paint_front(canvas, anatomy, palette, modality, position)
    surface = paint_back(canvas, anatomy, palette)
    paint_canal(canvas, anatomy, palette, modality)
    for index in range(len(anatomy.vertebrae) - 1):
        paint_disc(canvas, anatomy, index, palette, modality)
    labels = np.zeros(canvas.image.shape, dtype=np.uint8)
    for index, vertebra in enumerate(anatomy.vertebrae):
        grid = local_grid(vertebra, canvas.x, canvas.y, anatomy.spacing, _reach(vertebra))
        if grid.back.size == 0:
            continue
        outline, plates = body_outline(vertebra, grid, position - vertebra.lateral)
        _paint_body(canvas, vertebra, anatomy, position, modality, grid, outline, plates)
        if FIRST_LUMBAR <= index < SACRUM:
            labels[grid.window][outline > 0] = index - FIRST_LUMBAR + 1
    paint_arches(canvas, anatomy, position, modality)
    paint_skin(canvas, surface, palette)
    return canvas.image, labels


def _reach(vertebra: Vertebra) -> tuple[float, float, float, float]:
    wide, tall = vertebra.depth + vertebra.lip + 5.0, vertebra.height + 4.0
    turned = abs(vertebra.sin)
    across, along = wide + tall * turned, tall + wide * turned
    return across, across, along, along


def _paint_body(
    canvas: Canvas,
    vertebra: Vertebra,
    anatomy: Anatomy,
    position: float,
    modality: Modality,
    grid: LocalGrid,
    outline: Field,
    plates: Field,
) -> None:
    bone, lateral = bone_of(vertebra, anatomy, modality), position - vertebra.lateral
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
