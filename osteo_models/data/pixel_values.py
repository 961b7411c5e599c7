"""From the stored values of a file to the values that modelling uses: one path for imports and predictions."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, ImageOps
from pydicom.pixels.processing import apply_modality_lut

from osteo_models.core.terms import Modality, is_hounsfield
from osteo_models.data.dicom_file import MAX_PIXELS, iterate_frames
from osteo_models.data.geometry import group_value
from osteo_models.data.reasons import RejectedInput

Pixels = npt.NDArray[np.int16] | npt.NDArray[np.uint16]
HU: Final = (-1024, 32767)
RELATIVE_MAXIMUM: Final = 65535
GREY: Final = ("MONOCHROME1", "MONOCHROME2")
COLOURS: Final = ("PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "YBR", "XYB")
DEEP_MODES: Final = ("I", "I;16", "I;16B", "I;16L", "F")  # of the imaging library: more than 8 bits


def check_grey(dataset: pydicom.Dataset) -> None:
    """Check that the stored values are brightness, before they are decoded.

    Raises:
        RejectedInput: It is in colour, by samples or by a palette, or its interpretation is unknown.
    """
    interpretation = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or interpretation.startswith(COLOURS):
        raise RejectedInput("colour")
    if interpretation not in GREY:
        raise RejectedInput("damaged")


def read_frames(
    dataset: pydicom.Dataset, modality: Modality, count: int, chosen: Iterable[int] | None = None
) -> Iterator[Pixels]:
    """The values of the frames of a data set, in Hounsfield units where the modality has them.

    Args:
        dataset: Read with its pixels.
        modality: Its modality.
        count: Number of frames.
        chosen: Numbers of the frames to decode; all by default.

    Raises:
        RejectedInput: Pixels cannot be decoded, have no scale, or are the same everywhere.
    """
    check_grey(dataset)
    numbers = list(range(count) if chosen is None else chosen)
    for number, stored in zip(numbers, iterate_frames(dataset, count, numbers), strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = _scale(dataset, modality, number, stored)
        except RejectedInput:
            raise
        except Exception:  # noqa: BLE001  a broken look-up table or padding value raises anything
            raise RejectedInput("damaged_pixels") from None
        if values.min() == values.max():
            raise RejectedInput("blank")
        yield values


def _scale(dataset: pydicom.Dataset, modality: Modality, frame: int, stored: npt.NDArray[Any]) -> Pixels:
    """Modality LUT or rescale (PS3.3 C.11.1), padding replaced, MONOCHROME1 inverted so that more is brighter.

    Hounsfield units are never inverted, and the VOI LUT is for display only: the preparation has a window of its own.
    """
    padding = _padding(dataset, stored)
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not is_hounsfield(modality)
    transform = "PixelValueTransformationSequence"
    slope = group_value(dataset, frame, transform, "RescaleSlope")
    intercept = group_value(dataset, frame, transform, "RescaleIntercept")
    if "ModalityLUTSequence" in dataset:
        values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    elif is_hounsfield(modality) and (slope is None or intercept is None):
        raise RejectedInput("no_scale")
    else:
        slope, intercept = float(slope if slope is not None else 1), float(intercept if intercept is not None else 0)
        if (slope, intercept % 1) == (1, 0) and abs(intercept) < HU[1] and padding is None and not inverted:
            return _clip(stored.astype(np.int32) + int(intercept), modality)  # nearly all files; no fractions arise
        values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise RejectedInput("damaged_pixels")
    if padding is not None and padding.any():
        image = values[~padding]
        values = np.where(padding, image.min() if image.size else 0.0, values)
    if inverted:
        values = values.max() + values.min() - values
    return _clip(values, modality)


def _clip(values: npt.NDArray[Any], modality: Modality) -> Pixels:
    """16 bits: Hounsfield units; MR has no unit, so whole numbers stay as they are and others are spread."""
    rounded = values if values.dtype.kind == "i" else np.rint(values)
    if is_hounsfield(modality):
        return np.clip(rounded, *HU).astype(np.int16)
    low, high = float(values.min()), float(values.max())
    whole = rounded is values or bool((values == rounded).all())
    if not (whole and low >= 0 and high <= RELATIVE_MAXIMUM):
        rounded = np.rint((values - low) * (RELATIVE_MAXIMUM / (high - low) if high > low else 0.0))
    return rounded.astype(np.uint16)


def _padding(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Mask of the padding pixels (PS3.3 C.7.5.1.1.2); None where the file declares no padding value.

    The bits of the value count, not its sign: files declare 32768 for the -32768 of signed pixels.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    ends = np.array([int(value), int(limit)], np.int64).astype(stored.dtype)
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()), np.bool_)


def read_picture(data: bytes, smallest: int = 1) -> npt.NDArray[np.uint8]:
    """A PNG or JPEG as grey pixels, upright as its EXIF orientation says; more than 8 bits are spread over 8.

    Args:
        data: The whole file.
        smallest: Pixels that each side must have.

    Raises:
        RejectedInput: Damaged, too large, or too small.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise RejectedInput("too_large")
            if min(picture.size) < smallest:
                raise RejectedInput("implausible")
            upright = ImageOps.exif_transpose(picture)
            if upright.mode not in DEEP_MODES:
                return np.asarray(upright.convert("L"))
            values = np.asarray(upright, np.float64)
    except RejectedInput:
        raise
    except Image.DecompressionBombError:
        raise RejectedInput("too_large") from None
    except Exception:  # noqa: BLE001  damaged pictures make decoders raise anything
        raise RejectedInput("damaged") from None
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1.0))).astype(np.uint8)
