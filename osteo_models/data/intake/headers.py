"""What intake reads of a DICOM header: what decides whether the file is accepted, and what modelling uses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pydicom

from osteo_models.core.terms import DICOM_MODALITY, Modality
from osteo_models.data.decoding import can_decode
from osteo_models.data.dicom_file import MAX_PIXELS, RejectedInput

SPACING_MM: Final = (0.05, 10.0)
MAX_POSITION_MM: Final = 10_000
SIDE_PIXELS: Final = (32, 8192)
CAPTURES: Final = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104")  # screens; documents in a DICOM file
LUMBAR_WORDS: Final = ("LSPINE", "LUMBAR", "LWS", "SPINE", "VERTEBRA", "WHOLESPINE", "TLSPINE", "ABDOMEN", "PELVIS")
OTHER_SPINE_WORDS: Final = ("CSPINE", "CERVICAL", "HWS", "TSPINE", "THORACIC", "BWS")
TECHNIQUE: Final = ("RepetitionTime", "EchoTime", "MagneticFieldStrength", "KVP")
VENDORS: Final = ("SIEMENS", "GE MEDICAL", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "FUJIFILM", "UNITED IMAGING")


@dataclass(frozen=True)
class Plane:
    """Position and orientation of one frame in the patient (PS3.3 C.7.6.2.1.1).

    Units: spacing_mm: (between rows, between columns); position_mm: of the first pixel, in the patient's coordinates.
    """

    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position_mm: tuple[float, float, float]

    @property
    def name(self) -> str:
        """`sagittal`, `axial`, `coronal`, or `oblique` where the slice is tilted by more than some 35 degrees."""
        (a, b, c), (d, e, f) = self.orientation[:3], self.orientation[3:]
        normal = [abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d)]
        largest = max(range(3), key=normal.__getitem__)
        return ("sagittal", "coronal", "axial")[largest] if normal[largest] > 0.82 else "oblique"


@dataclass(frozen=True)
class Acquisition:
    """How a slice was acquired.

    Attributes:
        technique: (keyword, value) of the attributes in `TECHNIQUE` that the file has, sorted.
        vendor: One of `VENDORS`, or empty.
    """

    modality: Modality
    thickness_mm: float | None
    technique: tuple[tuple[str, float], ...] = ()
    vendor: str = ""


@dataclass(frozen=True)
class Header:
    """What a DICOM file holds before its pixels are decoded; the identifiers are the file's own.

    Attributes:
        planes: One for each frame.
    """

    acquisition: Acquisition
    patient: str
    study: str
    series: str
    instance: str
    planes: tuple[Plane, ...]


def read_header(dataset: pydicom.Dataset) -> Header:
    """Read and check a header.

    Raises:
        RejectedInput: The file cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(dataset)
    except RejectedInput:
        raise
    except Exception:  # noqa: BLE001  values of the wrong kind raise anything when they are read
        raise RejectedInput("damaged") from None


def _read(dataset: pydicom.Dataset) -> Header:
    if not len(dataset):
        raise RejectedInput("damaged")  # a truncated file reads as an empty data set
    modality = _check_kind(dataset)
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_pixels(dataset, frames)
    planes = tuple(_plane(dataset, frame) for frame in range(frames))
    if not str(dataset.get("PatientID") or ""):
        raise RejectedInput("no_patient")
    technique = {name: _number(dataset, name) for name in TECHNIQUE}
    if modality == "mri" and not _is_t1(technique):
        raise RejectedInput("other_weighting")
    maker = str(dataset.get("Manufacturer") or "").upper()
    acquisition = Acquisition(
        modality=modality,
        thickness_mm=_number(dataset, "SliceThickness"),
        technique=tuple(sorted((name, value) for name, value in technique.items() if value is not None)),
        vendor=next((vendor for vendor in VENDORS if vendor in maker), ""),
    )
    study, series, instance = (str(dataset.get(f"{level}InstanceUID") or "") for level in ("Study", "Series", "SOP"))
    return Header(acquisition, str(dataset.PatientID), study, series, instance, planes)


def _check_kind(dataset: pydicom.Dataset) -> Modality:
    code = dataset.get("Modality")
    kind = str(dataset.get("SOPClassUID") or "")
    image_type = [str(part).upper() for part in _listed(dataset.get("ImageType"))]
    if any(kind == uid or kind.startswith(f"{uid}.") for uid in CAPTURES):
        raise RejectedInput("secondary_capture")
    if code not in DICOM_MODALITY:
        raise RejectedInput("other_modality")
    if str(dataset.get("BurnedInAnnotation") or "").upper() == "YES":
        raise RejectedInput("burned_in")
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        raise RejectedInput("localizer")
    if "SCREEN SAVE" in image_type:
        raise RejectedInput("secondary_capture")
    part = "".join(letter for letter in str(dataset.get("BodyPartExamined") or "").upper() if letter.isalpha())
    other = any(word in part for word in OTHER_SPINE_WORDS) or not any(word in part for word in LUMBAR_WORDS)
    if part and other:
        raise RejectedInput("other_body_part")
    return DICOM_MODALITY[code]


def _check_pixels(dataset: pydicom.Dataset, frames: int) -> None:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise RejectedInput("no_pixels")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise RejectedInput("colour")
    if frames < 1 or rows * columns * frames > MAX_PIXELS:
        raise RejectedInput("too_large")
    if not all(SIDE_PIXELS[0] <= side <= SIDE_PIXELS[1] for side in (rows, columns)):
        raise RejectedInput("implausible")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if syntax and not can_decode(syntax):
        raise RejectedInput("unknown_encoding")


def group_value(dataset: pydicom.Dataset, frame: int, group: str, name: str) -> Any:
    """An attribute of one frame: from the frame's own or the shared functional group, else from the top level.

    Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
    """
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for item in (own[frame] if own and frame < len(own) else None, shared[0] if shared else None):
        macro = item.get(group) if item is not None else None
        if macro and macro[0].get(name) is not None:
            return macro[0].get(name)
    return dataset.get(name)


def _plane(dataset: pydicom.Dataset, frame: int) -> Plane:
    spacing = _numbers(group_value(dataset, frame, "PixelMeasuresSequence", "PixelSpacing"))
    orientation = _numbers(group_value(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient"))
    position = _numbers(group_value(dataset, frame, "PlanePositionSequence", "ImagePositionPatient"))
    if len(spacing) != 2 or len(orientation) != 6 or len(position) != 3:
        raise RejectedInput("no_geometry")
    if any(abs(value) > MAX_POSITION_MM for value in position):
        raise RejectedInput("implausible")
    if not all(SPACING_MM[0] <= value <= SPACING_MM[1] for value in spacing):
        raise RejectedInput("implausible")
    rows, columns = orientation[:3], orientation[3:]
    product = sum(a * b for a, b in zip(rows, columns, strict=True))
    if any(abs(math.hypot(*axis) - 1) > 0.01 for axis in (rows, columns)) or abs(product) > 0.01:
        raise RejectedInput("implausible")  # PS3.3 C.7.6.2.1.1: unit vectors at a right angle
    return Plane((spacing[0], spacing[1]), tuple(orientation), (position[0], position[1], position[2]))


def _is_t1(technique: dict[str, float | None]) -> bool:
    """Whether TR and TE are short, as in T1-weighted spin echo; unknown times pass."""
    repetition, echo = technique["RepetitionTime"], technique["EchoTime"]
    return (repetition is None or repetition <= 1200) and (echo is None or echo <= 40)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _numbers(value: Any) -> list[float]:
    numbers = [float(number) for number in _listed(value)]
    if not all(math.isfinite(number) for number in numbers):
        raise RejectedInput("implausible")
    return numbers


def _number(dataset: pydicom.Dataset, name: str) -> float | None:
    try:
        value = float(dataset.get(name))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and 0 < value < 1e5 else None
