"""What intake reads of a DICOM header: only what decides about the file and what modelling uses."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pydicom

from osteo_models.core.terms import DICOM_MODALITY, Modality
from osteo_models.data.decoding import can_decode
from osteo_models.data.intake.sources import Refusal

MAX_PIXELS: Final = 100_000_000  # of all frames of one file
MAX_INFLATED_BYTES: Final = 300_000_000
LEAST_INFLATED_BYTES: Final = 16_000_000  # a bomb shows itself by its ratio long before it has grown to the most
MOST_TIMES_PACKED: Final = 50
DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
SPACING_MM: Final = (0.05, 10.0)
FURTHEST_MM: Final = 10_000
SIDE_PIXELS: Final = (32, 8192)
CAPTURES: Final = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104")  # screens; documents in a DICOM file
LUMBAR_WORDS: Final = ("LSPINE", "LUMBAR", "LWS", "SPINE", "VERTEBRA", "WHOLESPINE", "TLSPINE", "ABDOMEN", "PELVIS")
OTHER_SPINE_WORDS: Final = ("CSPINE", "CERVICAL", "HWS", "TSPINE", "THORACIC", "BWS")
TECHNIQUE: Final = ("RepetitionTime", "EchoTime", "MagneticFieldStrength", "KVP")
VENDORS: Final = ("SIEMENS", "GE MEDICAL", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "FUJIFILM", "UNITED IMAGING")


@dataclass(frozen=True)
class Plane:
    """Where one frame lies in the patient (PS3.3 C.7.6.2.1.1).

    Units: spacing_mm: (between rows, between columns); position_mm: of the first pixel, in the patient's coordinates.
    """

    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position_mm: tuple[float, float, float]

    @property
    def normal(self) -> tuple[float, float, float]:
        """The direction across the slice."""
        (a, b, c), (d, e, f) = self.orientation[:3], self.orientation[3:]
        return (b * f - c * e, c * d - a * f, a * e - b * d)

    @property
    def name(self) -> str:
        """`sagittal`, `axial`, `coronal`, or `oblique` where the slice is tilted by more than some 35 degrees."""
        sizes = [abs(value) for value in self.normal]
        largest = max(range(3), key=sizes.__getitem__)
        return ("sagittal", "coronal", "axial")[largest] if sizes[largest] > 0.82 else "oblique"


@dataclass(frozen=True)
class Header:
    """What a DICOM file says before its pixels are decoded; identifiers are the file's own, for this step only."""

    modality: Modality
    patient: str
    study: str
    series: str
    instance: str
    planes: tuple[Plane, ...]
    thickness_mm: float | None
    technique: dict[str, float]
    vendor: str

    @property
    def frames(self) -> int:
        """Number of slices in the file."""
        return len(self.planes)


def parse(data: bytes, *, pixels: bool) -> pydicom.Dataset:
    """The data set of a DICOM file, within bounds of memory.

    Raises:
        Refusal: It cannot be read, or would inflate beyond bounds.
    """
    if DEFLATED in data[:4096]:
        _check_inflated(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are judged below, by what is used of them
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
            if not len(dataset):
                raise Refusal("damaged")  # a truncated file reads as an empty data set
            return dataset
    except Refusal:
        raise
    except Exception:  # noqa: BLE001  damaged files make pydicom raise anything
        raise Refusal("damaged") from None


def read_header(dataset: pydicom.Dataset) -> Header:
    """Judge a header by itself.

    Raises:
        Refusal: The file cannot be used, with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(dataset)
    except Refusal:
        raise
    except Exception:  # noqa: BLE001  values of the wrong kind raise anything when they are read
        raise Refusal("damaged") from None


def _read(dataset: pydicom.Dataset) -> Header:
    modality = _check_kind(dataset)
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_pixels(dataset, frames)
    planes = tuple(_plane(dataset, frame) for frame in range(frames))
    if not str(dataset.get("PatientID") or ""):
        raise Refusal("no_patient")
    technique = {name: _number(dataset, name) for name in TECHNIQUE}
    if modality == "mri" and not _is_t1(technique):
        raise Refusal("other_weighting")
    maker = str(dataset.get("Manufacturer") or "").upper()
    return Header(
        modality=modality,
        patient=str(dataset.PatientID),
        study=str(dataset.get("StudyInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        instance=str(dataset.get("SOPInstanceUID") or ""),
        planes=planes,
        thickness_mm=_number(dataset, "SliceThickness"),
        technique={name: value for name, value in technique.items() if value is not None},
        vendor=next((vendor for vendor in VENDORS if vendor in maker), ""),
    )


def _check_kind(dataset: pydicom.Dataset) -> Modality:
    code = dataset.get("Modality")
    kind = str(dataset.get("SOPClassUID") or "")
    image_type = [str(part).upper() for part in _listed(dataset.get("ImageType"))]
    if any(kind == each or kind.startswith(each + ".") for each in CAPTURES):
        raise Refusal("secondary_capture")
    if code not in DICOM_MODALITY:
        raise Refusal("other_modality")
    if str(dataset.get("BurnedInAnnotation") or "").upper() == "YES":
        raise Refusal("burned_in")
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        raise Refusal("localizer")
    if "SCREEN SAVE" in image_type:
        raise Refusal("secondary_capture")
    part = "".join(letter for letter in str(dataset.get("BodyPartExamined") or "").upper() if letter.isalpha())
    other = any(word in part for word in OTHER_SPINE_WORDS) or not any(word in part for word in LUMBAR_WORDS)
    if part and other:
        raise Refusal("other_body_part")
    return DICOM_MODALITY[code]


def _check_pixels(dataset: pydicom.Dataset, frames: int) -> None:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not rows or not columns:
        raise Refusal("no_pixels")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Refusal("colour")
    if frames < 1 or rows * columns * frames > MAX_PIXELS:
        raise Refusal("too_large")
    if not all(SIDE_PIXELS[0] <= side <= SIDE_PIXELS[1] for side in (rows, columns)):
        raise Refusal("implausible")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if syntax and not can_decode(syntax):
        raise Refusal("unknown_encoding")


def group_value(dataset: pydicom.Dataset, frame: int, group: str, name: str) -> Any:
    """An attribute of one frame: from the frame's own or the shared functional group, else from the top level.

    Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
    """
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    places = [own[frame] if own and frame < len(own) else None, shared[0] if shared else None]
    for place in places:
        macro = place.get(group) if place is not None else None
        if macro and macro[0].get(name) is not None:
            return macro[0].get(name)
    return dataset.get(name)


def _plane(dataset: pydicom.Dataset, frame: int) -> Plane:
    spacing = _numbers(group_value(dataset, frame, "PixelMeasuresSequence", "PixelSpacing"))
    orientation = _numbers(group_value(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient"))
    position = _numbers(group_value(dataset, frame, "PlanePositionSequence", "ImagePositionPatient"))
    if len(spacing) != 2 or len(orientation) != 6 or len(position) != 3:
        raise Refusal("no_geometry")
    if any(abs(value) > FURTHEST_MM for value in position):
        raise Refusal("implausible")
    if not all(SPACING_MM[0] <= value <= SPACING_MM[1] for value in spacing):
        raise Refusal("implausible")
    rows, columns = orientation[:3], orientation[3:]
    lengths = [math.sqrt(sum(value * value for value in each)) for each in (rows, columns)]
    across = sum(a * b for a, b in zip(rows, columns, strict=True))
    if any(abs(length - 1) > 0.01 for length in lengths) or abs(across) > 0.01:
        raise Refusal("implausible")  # PS3.3 C.7.6.2.1.1: unit vectors at a right angle
    return Plane((spacing[0], spacing[1]), tuple(orientation), (position[0], position[1], position[2]))


def _is_t1(technique: dict[str, float | None]) -> bool:
    """Short TR and TE, as T1-weighted spin echo has; unknown times are let pass."""
    repetition, echo = technique["RepetitionTime"], technique["EchoTime"]
    return (repetition is None or repetition <= 1200) and (echo is None or echo <= 40)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _numbers(value: Any) -> list[float]:
    numbers = [float(each) for each in _listed(value)]
    if not all(math.isfinite(each) for each in numbers):
        raise Refusal("implausible")
    return numbers


def _number(dataset: pydicom.Dataset, name: str) -> float | None:
    try:
        value = float(dataset.get(name))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and 0 < value < 1e5 else None


def _check_inflated(data: bytes) -> None:
    """A deflated data set is inflated within bounds first: pydicom inflates all of it, however much that is."""
    start = 144 + int.from_bytes(data[140:144], "little")  # after the group length of the file meta (PS3.10 7.1)
    most = min(MAX_INFLATED_BYTES, max(LEAST_INFLATED_BYTES, MOST_TIMES_PACKED * len(data)))
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], most + 1)
    except zlib.error:
        raise Refusal("damaged") from None
    if len(inflated) > most:
        raise Refusal("too_large")
