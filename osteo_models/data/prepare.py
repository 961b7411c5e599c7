"""From a slice to the 80 x 60 grey image that the networks see: window, crop to the lumbar column, resize.

Whole numbers do the work (8-bit windowing, integer sums, the imaging library's fixed-point resize), so that the same
file gives the same bytes on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from osteo_models.core.errors import ImageError
from osteo_models.core.params import Prepare
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality
from osteo_models.data.geometry import MAX_FIELD_MM
from osteo_models.data.image_file import SourceImage, read_image

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PreparedImage:
    """What a network takes.

    Shapes:
        pixels: (80, 60), 8-bit grey.
    """

    pixels: Grey
    modality: Modality | None
    patient_id: str | None


def prepare_bytes(
    data: bytes, *, prepare: Prepare, modality: Modality | None = None, where: str = "image"
) -> PreparedImage:
    """Prepare one image file.

    A picture that is already 80 x 60 is taken as prepared; other pictures (PNG, JPEG) carry no spacing and are taken
    as cropped to the lumbar column, as the published samples are. DICOM slices are windowed and cropped here.

    Args:
        data: The whole file.
        prepare: The section of params.yaml.
        modality: What the caller knows of it; must agree with the file.
        where: What to call the file in errors.

    Raises:
        ImageError: The file cannot be read, or is of another modality than `modality`.
    """
    source = read_image(data, where=where)
    if modality and source.modality and modality != source.modality:
        raise ImageError(f"the file is {source.modality}", where=where, allowed=modality)
    grey = _prepare(source, prepare, where)
    return PreparedImage(pixels=grey, modality=source.modality or modality, patient_id=source.patient_id)


def prepare_mask(data: bytes, mask: npt.NDArray[np.bool_], *, prepare: Prepare, where: str = "image") -> Grey:
    """A mask on an image file, cropped and resized as the image itself is.

    Shapes:
        mask: as the image in the file; returns (80, 60), the share of each pixel that is inside, 255 for all of it.

    Raises:
        ImageError: The file cannot be read, or is not of the mask's shape.
    """
    source = read_image(data, where=where)
    if mask.shape != source.pixels.shape:
        raise ImageError(f"pixels {source.pixels.shape}", where=where, allowed=f"those of the mask, {mask.shape}")
    _, box = window_image(source, prepare, where)
    return _resize(np.where(mask, 255, 0).astype(np.uint8), box)


def _prepare(source: SourceImage, prepare: Prepare, where: str) -> Grey:
    if source.pixels.shape == (IMAGE_ROWS, IMAGE_COLUMNS) and source.modality is None:
        return source.pixels.astype(np.uint8)
    return _resize(*window_image(source, prepare, where))


def window_image(source: SourceImage, prepare: Prepare, where: str) -> tuple[Grey, tuple[int, int, int, int]]:
    """The whole image in 8 bits, and the part of it that is kept: (left, top, right, bottom).

    Raises:
        ImageError: It has no spacing, or shows more than the lumbar spine and its neighbourhood.
    """
    if source.modality is None:
        return source.pixels.astype(np.uint8), (0, 0, source.pixels.shape[1], source.pixels.shape[0])
    if source.spacing_mm is None:
        raise ImageError("no PixelSpacing (0028,0030)", where=where, allowed="a DICOM slice with its spacing")
    height_mm = source.pixels.shape[0] * source.spacing_mm[0]
    if height_mm > MAX_FIELD_MM:
        found = f"{height_mm:.0f} mm from head to feet: where the lumbar spine is, is unknown"
        raise ImageError(found, where=where, allowed=f"up to {MAX_FIELD_MM:.0f} mm", remedy="crop it to L1-L5")
    intensity = prepare.intensity[source.modality]
    low, high = intensity.window_hu or _percentiles(source.pixels, intensity.percentiles or (0, 100))
    grey = window_grey(source.pixels, low, high)
    return grey, crop_box(grey, source.spacing_mm, prepare.crop_mm)


def window_grey(pixels: npt.NDArray[np.float32], low: float, high: float) -> Grey:
    """Map [low, high] to 0..255, clipped outside; a flat range gives 0."""
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.uint8)
    scaled = (pixels.astype(np.float64) - low) * (255.0 / (high - low)) + 0.5
    return np.clip(scaled, 0, 255).astype(np.uint8)


def crop_box(grey: Grey, spacing_mm: tuple[float, float], crop_mm: tuple[float, float]) -> tuple[int, int, int, int]:
    """The portrait window around the lumbar column: (left, top, right, bottom) in pixels.

    Along the column discs and vertebrae alternate, so going down it grey values change most. The rule: sum the
    absolute differences between rows for each column, take the mean over the width of a vertebral body (40 mm), and
    centre the window on the largest. Rows are centred on the image. A window larger than the image is cut to it.
    """
    height, width = grey.shape
    step = max(1, round(3 / spacing_mm[0]))
    rows = min(height, round(crop_mm[0] / spacing_mm[0]))
    columns = min(width, round(crop_mm[1] / spacing_mm[1]))
    top = (height - rows) // 2
    middle = grey[top : top + rows].astype(np.int64)
    energy = np.abs(middle[step:] - middle[:-step]).sum(axis=0)
    body = max(1, min(width, round(40 / spacing_mm[1])))
    cumulated = np.concatenate([[0], np.cumsum(energy)])
    centre = int(np.argmax(cumulated[body:] - cumulated[:-body])) + body // 2
    left = min(max(0, centre - columns // 2), width - columns)
    return left, top, left + columns, top + rows


def _percentiles(pixels: npt.NDArray[np.float32], percentiles: tuple[float, float]) -> tuple[float, float]:
    ordered = np.sort(pixels, axis=None)
    low, high = (ordered[round((ordered.size - 1) * percent / 100)] for percent in percentiles)
    return float(low), float(high)


def _resize(grey: Grey, box: tuple[int, int, int, int]) -> Grey:
    picture = Image.fromarray(np.ascontiguousarray(grey))
    return np.asarray(picture.resize((IMAGE_COLUMNS, IMAGE_ROWS), Image.Resampling.BILINEAR, box=box))


def prepare_files(
    files: Sequence[tuple[Path, Modality]],
    prepare: Prepare,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Grey:
    """Prepare many files in worker processes, in order.

    Shapes:
        returns (N, 80, 60).

    Raises:
        ImageError: Listing every file that cannot be used.
    """
    out = np.empty((len(files), IMAGE_ROWS, IMAGE_COLUMNS), dtype=np.uint8)
    faults: list[str] = []
    workers = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for index, result in enumerate(pool.map(partial(_prepare_file, prepare), files, chunksize=32)):
            if isinstance(result, str):
                faults.append(result)
            else:
                out[index] = result
            if progress:
                progress(index + 1, len(files))
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise ImageError(f"{len(faults)} of {len(files)} files cannot be used: {shown}")
    return out


def _prepare_file(prepare: Prepare, file: tuple[Path, Modality]) -> Grey | str:
    path, modality = file
    try:
        return prepare_bytes(path.read_bytes(), prepare=prepare, modality=modality, where=str(path)).pixels
    except (ImageError, OSError) as error:
        return str(error)
