"""A picture of a map: the image, the map laid over it, and a colour bar."""

from __future__ import annotations

from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from osteo_models.core.terms import CLASS_NAMES, Modality

Grey = npt.NDArray[np.uint8]

COLOURS: Final = "inferno"  # lightness rises evenly, so that it works in grey and for colour-blind readers
SCALE: Final = 3
GAP, MARGIN, HEAD, LINE, BAR, BAR_LABELS = 10, 12, 26, 15, 12, 44
TOP_PERCENTILE: Final = 99.0  # drawn as the maximum: a few single pixels of SmoothGrad would leave the rest dark
OPACITY: Final = 0.8
HALF: Final = 128  # of a mask's 255
INK, FAINT, PAPER, OUTLINE = (28, 32, 38), (96, 104, 114), (255, 255, 255), (94, 234, 212)


def draw_overlay(
    image: Grey, heat: npt.NDArray[np.float32], *, title: str, note: str, mask: Grey | None = None
) -> Image.Image:
    """The image and, next to it, the image with its map.

    Shapes:
        image, heat, mask: (H, W).

    Args:
        image: As the network saw it.
        heat: 0 or more; drawn relative to its own highest values.
        title: Above the pictures.
        note: Below them.
        mask: Where the vertebrae are, 255 for all of a pixel; its outline is drawn.
    """
    width, height = image.shape[1] * SCALE, image.shape[0] * SCALE
    left, right, bar = MARGIN, MARGIN + width + GAP, MARGIN + 2 * (width + GAP)
    words = [note] if mask is None else [note, "line: lumbar vertebral bodies"]
    picture = Image.new("RGB", (bar + BAR + BAR_LABELS, HEAD + height + LINE * len(words) + GAP), PAPER)
    pen = ImageDraw.Draw(picture)
    plain = _enlarge(image).convert("RGB")
    picture.paste(plain, (left, HEAD))
    picture.paste(_blend(plain, heat, mask), (right, HEAD))
    strip = np.repeat(np.linspace(1.0, 0.0, height)[:, None], BAR, axis=1)
    picture.paste(Image.fromarray(_colour(strip)), (bar, HEAD))
    small, plain_font = ImageFont.load_default(11), ImageFont.load_default(12)
    pen.text((bar + BAR + 6, HEAD), "most", INK, small)
    pen.text((bar + BAR + 6, HEAD + height), "none", INK, small, anchor="ls")
    pen.text((left, HEAD - 8), title, INK, plain_font, anchor="ls")
    for number, line in enumerate(words):
        pen.text((left, HEAD + height + 5 + LINE * number), line, FAINT, small)
    return picture


def name_title(
    method: str, modality: Modality | None, decision: int, score: float, *, target: int | None = None
) -> str:
    """What a picture shows; `target` is named when the decision is wrong."""
    head = f"{method}, {modality.upper()}" if modality else method
    truth = "" if target is None or target == decision else f", truly {CLASS_NAMES[target]}"
    return f"{head}: taken for {CLASS_NAMES[decision]} ({score:.2f}){truth}"


def name_note(origin: str) -> str:
    """The note below every picture."""
    return ", ".join(part for part in (origin, "research software, not a medical device") if part)


def _blend(plain: Image.Image, heat: npt.NDArray[np.float32], mask: Grey | None) -> Image.Image:
    """Blend the map over the image; strong values are opaque."""
    level = np.asarray(_enlarge(_scale(heat)), dtype=np.float64) / 255.0
    alpha = OPACITY * np.sqrt(level)[..., None]
    mixed = np.asarray(plain) * (1 - alpha) + _colour(level) * alpha
    if mask is not None:
        inside = np.asarray(_enlarge(mask)) >= HALF
        mixed[inside & ~binary_erosion(inside)] = OUTLINE
    return Image.fromarray((mixed + 0.5).astype(np.uint8))


def _scale(heat: npt.NDArray[np.float32]) -> Grey:
    """Scale from 0 to the highest values; a map that is 0 everywhere stays 0."""
    top = float(np.percentile(heat, TOP_PERCENTILE)) or float(heat.max())
    return (np.clip(heat / top, 0, 1) * 255 + 0.5).astype(np.uint8) if top > 0 else np.zeros(heat.shape, np.uint8)


def _colour(level: npt.NDArray[np.float64]) -> Grey:
    return (matplotlib.colormaps[COLOURS](level)[..., :3] * 255 + 0.5).astype(np.uint8)


def _enlarge(grey: Grey) -> Image.Image:
    return Image.fromarray(grey).resize((grey.shape[1] * SCALE, grey.shape[0] * SCALE), Image.Resampling.BICUBIC)
