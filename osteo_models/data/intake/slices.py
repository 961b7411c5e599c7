"""One slice with what modelling uses of it, decoded from a DICOM file or a picture."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut

from osteo_models.core.terms import Modality, is_hounsfield
from osteo_models.data.dicom_file import MAX_PIXELS, RejectedInput, decode_frames
from osteo_models.data.intake.headers import SIDE_PIXELS, Acquisition, Header, Plane, group_value

Pixels = npt.NDArray[np.int16] | npt.NDArray[np.uint16]
HU: Final = (-1024, 32767)
MR_MAXIMUM: Final = 65535


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice.

    Shapes: pixels: (H, W); int16 for CT, uint16 for MR.
    Units: pixels: Hounsfield units for CT, arbitrary for MR.
    """

    pixels: Pixels
    plane: Plane
    acquisition: Acquisition

    @property
    def digest(self) -> str:
        """Hash of the pixels."""
        content = hashlib.sha256(repr((self.acquisition.modality, self.pixels.shape)).encode())
        content.update(np.ascontiguousarray(self.pixels).data)
        return content.hexdigest()


def decode_slices(dataset: pydicom.Dataset, header: Header) -> Iterator[Slice]:
    """Every frame of a data set that was read with its pixels.

    Raises:
        RejectedInput: The pixels cannot be decoded, or CT has no scale.
    """
    frames = decode_frames(dataset, len(header.planes))
    for number, (frame, plane) in enumerate(zip(frames, header.planes, strict=True)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = _scale(dataset, header.acquisition.modality, number, frame)
        except RejectedInput:
            raise
        except Exception:  # noqa: BLE001  a broken look-up table or padding value raises anything
            raise RejectedInput("damaged") from None
        yield Slice(values, plane, header.acquisition)


def _scale(dataset: pydicom.Dataset, modality: Modality, frame: int, stored: npt.NDArray[Any]) -> Pixels:
    """Modality LUT or rescale (PS3.3 C.11.1), padding replaced, MONOCHROME1 inverted so that more is brighter.

    The VOI LUT is for display only: the preparation has a window of its own.
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
        raise RejectedInput("damaged")
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
    if not (whole and low >= 0 and high <= MR_MAXIMUM):
        rounded = np.rint((values - low) * (MR_MAXIMUM / (high - low) if high > low else 0.0))
    return rounded.astype(np.uint16)


def _padding(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Mask of the padding pixels (PS3.3 C.7.5.1.1.2); None where the file declares no padding value."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(limit)))
    return np.asarray((stored >= low) & (stored <= high), np.bool_)


def decode_picture(data: bytes) -> npt.NDArray[np.uint8]:
    """A PNG or JPEG as grey pixels.

    Raises:
        RejectedInput: Damaged, too large, or too small.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise RejectedInput("too_large")
            if not all(SIDE_PIXELS[0] <= side <= SIDE_PIXELS[1] for side in picture.size):
                raise RejectedInput("implausible")
            return np.asarray(picture.convert("L"))
    except RejectedInput:
        raise
    except Image.DecompressionBombError:
        raise RejectedInput("too_large") from None
    except Exception:  # noqa: BLE001  damaged pictures make decoders raise anything
        raise RejectedInput("damaged") from None
