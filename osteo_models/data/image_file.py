"""One image file (DICOM, PNG or JPEG) as pixels with what is known of them; every fault is an ImageError."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
from PIL import Image

from osteo_models.core.errors import ImageError
from osteo_models.core.terms import DICOM_MODALITY, Modality
from osteo_models.data.dicom_file import MAX_PIXELS, is_dicom, parse_dicom
from osteo_models.data.geometry import SPACING_MM, as_numbers, make_upright, read_plane
from osteo_models.data.pixel_values import read_frames, read_picture
from osteo_models.data.reasons import REASONS, RejectedInput

MAX_LABEL: Final = 5  # L1 to L5
FORMATS = f"DICOM ({' or '.join(DICOM_MODALITY)}, one frame), PNG, JPEG"
# How a slice was acquired, by the names that the tables use; PS3.6 has the keywords.
HEADER_NUMBERS: Final[dict[str, str]] = {
    "repetition_time_ms": "RepetitionTime",
    "echo_time_ms": "EchoTime",
    "field_strength_t": "MagneticFieldStrength",
    "flip_angle_deg": "FlipAngle",
    "averages": "NumberOfAverages",
    "slice_thickness_mm": "SliceThickness",
    "slice_spacing_mm": "SpacingBetweenSlices",
    "pixel_spacing_mm": "PixelSpacing",
    "rows": "Rows",
    "columns": "Columns",
    "reconstruction_diameter_mm": "ReconstructionDiameter",
    "kvp": "KVP",
    "tube_current_ma": "XRayTubeCurrent",
    "exposure_mas": "Exposure",
    "window_centre": "WindowCenter",
    "window_width": "WindowWidth",
}
HASH_DIGITS: Final = 16
HEADER_COLUMNS = ("image_id", "study", "series", "scanner", *HEADER_NUMBERS)


@dataclass(frozen=True)
class SourceImage:
    """An image as it came.

    Shapes:
        pixels: (H, W).

    Units:
        pixels: Hounsfield units where modality is `ct` and the file is DICOM; arbitrary otherwise.
        spacing_mm: (between rows, between columns); None for PNG and JPEG, which carry none.
    """

    pixels: npt.NDArray[np.float32]
    modality: Modality | None
    patient_id: str | None
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True)
class Header:
    """What the header says of the acquisition; nothing that names a person.

    Args:
        study, series: SHA-256 of the instance UID, cut short: equal where the UID is, and never the UID. Empty where
            there is none.
        scanner: Manufacturer, model and field strength as written; empty where the header is silent.
        numbers: By the names of `HEADER_NUMBERS`; NaN where the header is silent.
    """

    study: str
    series: str
    scanner: str
    numbers: dict[str, float]


def is_picture(data: bytes) -> bool:
    """Whether a file says that it is PNG or JPEG, which know no modality."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" or data[:3] == b"\xff\xd8\xff"


def read_image(data: bytes, *, where: str) -> SourceImage:
    """Decode one image file.

    Args:
        data: The whole file.
        where: What to call it in errors.

    Raises:
        ImageError: It is no image of the known formats, is damaged, too large, or not MR or CT.
    """
    if is_dicom(data):
        return _read_dicom(data, where)
    if is_picture(data):
        with _read_errors("picture", where):
            grey = read_picture(data)
        return SourceImage(grey.astype(np.float32), modality=None, patient_id=None, spacing_mm=None)
    raise ImageError("not an image file that can be read", where=where, allowed=FORMATS)


def read_header(data: bytes, *, where: str) -> Header:
    """Read how an image was acquired; a picture (PNG, JPEG) knows nothing of it.

    Raises:
        ImageError: The file says that it is DICOM and cannot be read as such, or is not MR or CT.
    """
    if not is_dicom(data):
        return Header("", "", "", dict.fromkeys(HEADER_NUMBERS, math.nan))
    keywords = ["Modality", "StudyInstanceUID", "SeriesInstanceUID", "Manufacturer", "ManufacturerModelName"]
    with _read_errors("DICOM header", where):
        dataset = parse_dicom(data, pixels=False, keywords=[*keywords, *HEADER_NUMBERS.values()])
        _modality(dataset, where)  # a file that was cut short reads as one that is empty
        numbers = {name: _number(dataset, keyword) for name, keyword in HEADER_NUMBERS.items()}
        names = [str(dataset.get(keyword) or "").strip() for keyword in ("Manufacturer", "ManufacturerModelName")]
        study, series = (_hash(dataset.get(f"{level}InstanceUID")) for level in ("Study", "Series"))
    strength = numbers["field_strength_t"]
    names.append("" if math.isnan(strength) else f"{strength:g} T")
    return Header(study, series, " ".join(name for name in names if name), numbers)


def _number(dataset: pydicom.Dataset, keyword: str) -> float:
    """The first value of an attribute; NaN where it is absent, empty or no number."""
    value: Any = dataset.get(keyword)
    try:
        number = float(value if isinstance(value, (int, float, str)) else value[0])
    except (TypeError, ValueError, IndexError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _hash(uid: object) -> str:
    return hashlib.sha256(str(uid).encode()).hexdigest()[:HASH_DIGITS] if uid else ""


@contextlib.contextmanager
def _read_errors(kind: str, where: str) -> Iterator[None]:
    """Turn whatever a damaged file makes pydicom raise into an ImageError; exceptions may quote header values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of odd values; those that are used are checked
            yield
    except ImageError:
        raise
    except RejectedInput as error:
        raise ImageError(f"{kind}: {REASONS[error.reason]}", where=where, allowed=FORMATS) from None
    except Exception as error:  # noqa: BLE001
        raise ImageError(f"{kind}: damaged ({type(error).__name__})", where=where, allowed=FORMATS) from None


def read_label_map(data: bytes, *, where: str) -> npt.NDArray[np.uint8]:
    """Decode a label map: 8-bit grey PNG, 1 to 5 in the bodies of L1 to L5, 0 elsewhere.

    Raises:
        ImageError: It is no such image.
    """
    allowed = "8-bit grey PNG with values 0 to 5"
    picture = _load_picture(data, "label map", where, ["PNG"], allowed)
    labels = np.asarray(picture)
    if picture.mode != "L" or labels.max() > MAX_LABEL:
        found = f"pixels of mode {picture.mode}" if picture.mode != "L" else f"label {labels.max()}"
        raise ImageError(found, where=where, allowed=allowed)
    return labels


def _load_picture(data: bytes, kind: str, where: str, formats: list[str], allowed: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=formats) as picture:
            _check_size(picture.width * picture.height, where)
            picture.load()
            return picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"damaged {kind} ({type(error).__name__})", where=where, allowed=allowed) from None


def _read_dicom(data: bytes, where: str) -> SourceImage:
    with _read_errors("DICOM file", where):
        dataset = parse_dicom(data)
        modality = _modality(dataset, where)
        _check_frame(dataset, where)
        (pixels,) = read_frames(dataset, modality, 1)
        spacing = as_numbers(dataset.get("PixelSpacing"))
        spacing_mm = (spacing[0], spacing[1]) if len(spacing) == 2 else None
        if spacing_mm is not None and not (min(spacing_mm) >= SPACING_MM[0] and max(spacing_mm) <= SPACING_MM[1]):
            allowed = f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm"
            raise ImageError(f"PixelSpacing {spacing_mm} is not plausible", where=where, allowed=allowed)
        if "ImageOrientationPatient" in dataset and "ImagePositionPatient" in dataset and spacing_mm is not None:
            plane = read_plane(dataset, 0)
            if plane.name == "sagittal":
                pixels, plane = make_upright(pixels, plane)
                spacing_mm = plane.spacing_mm
        patient_id = str(dataset.get("PatientID") or "").strip() or None
    return SourceImage(pixels.astype(np.float32), modality=modality, patient_id=patient_id, spacing_mm=spacing_mm)


def _modality(dataset: pydicom.Dataset, where: str) -> Modality:
    code = dataset.get("Modality")
    if code not in DICOM_MODALITY:
        found = "no Modality (0008,0060)" if code is None else f"Modality {str(code)[:16]!r}"
        raise ImageError(found, where=where, allowed=" or ".join(DICOM_MODALITY))
    return DICOM_MODALITY[code]


def _check_frame(dataset: pydicom.Dataset, where: str) -> None:
    if "PixelData" not in dataset:
        raise ImageError("no pixel data", where=where, allowed=FORMATS)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames", where=where, allowed="one frame", remedy="split it into single frames")
    _check_size(int(dataset.Rows) * int(dataset.Columns), where)


def _check_size(pixels: int, where: str) -> None:
    if not 0 < pixels <= MAX_PIXELS:
        raise ImageError(f"{pixels:,} pixels", where=where, allowed=f"1 to {MAX_PIXELS:,} pixels")


def read_headers(images: pd.DataFrame, dicom: Path) -> pd.DataFrame:
    """Read the header of every image, without its pixels.

    Args:
        images: image_id and path (relative to `dicom`), as `list_images` gives them.
        dicom: The folder of the image files.

    Returns:
        The columns `HEADER_COLUMNS`, in the order of `images`; a number that a header lacks is NaN. Study and series
        are hashes: the identifiers themselves stay in the files.

    Raises:
        ImageError: A file that cannot be read.
    """
    rows: list[dict[str, object]] = []
    for image_id, path in zip(images["image_id"], images["path"], strict=True):
        header = read_header((dicom / str(path)).read_bytes(), where=str(dicom / str(path)))
        row: dict[str, object] = {"image_id": image_id, "study": header.study, "series": header.series}
        rows.append(row | {"scanner": header.scanner} | dict(header.numbers))
    return pd.DataFrame(rows, columns=list(HEADER_COLUMNS))
