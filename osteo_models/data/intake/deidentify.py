"""De-identification by building anew: a data set holds what is listed here, whatever the file held.

Nothing is filtered, so nothing can be forgotten: pixels, geometry and a few numbers of the technique are taken over,
every identifier is a keyed pseudonym, and all text is ours.

Source: DICOM PS3.15 Annex E (Basic Application Level Confidentiality Profile, Retain Patient Characteristics Option);
PS3.3 A.3 (CT), A.4 (MR).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from osteo_models.core.terms import Modality
from osteo_models.data.clinical import COLUMNS, DATES
from osteo_models.data.intake.pseudonyms import Pseudonyms
from osteo_models.data.intake.slices import Slice

OLDEST_AGE_YEARS: Final = 90  # ages over 89 are pooled
DAY_ZERO: Final = pd.Timestamp("1900-01-01")
IMPLEMENTATION: Final = "OSTEO_INTAKE_1"
METHOD: Final = "Listed attributes only; keyed pseudonyms; dates removed"
METHOD_CODES: Final = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
)  # PS3.16 CID 7050


@dataclass(frozen=True)
class Person:
    """What an image says of its person."""

    patient_id: str
    sex: str
    age_years: int


@dataclass(frozen=True)
class _Shared:
    """What the slices of a series share."""

    modality: Modality
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    thickness_mm: float | None
    technique: tuple[tuple[str, float], ...]
    vendor: str
    person: Person
    study: str
    series: str
    frame: str


def pool_age(age_years: int) -> int:
    """The age, or 90 for everybody over 89."""
    return min(age_years, OLDEST_AGE_YEARS)


def encode_slice(
    content: Slice, person: Person, pseudonyms: Pseudonyms, *, study: str, series: str, instance: str
) -> bytes:
    """A slice as a de-identified DICOM file; equal input gives equal bytes.

    Args:
        content: The slice.
        person: Whose it is, by pseudonym.
        pseudonyms: The key.
        study: The file's own identifiers, replaced here.
        series: Likewise.
        instance: Likewise, made unique per slice by the caller.
    """
    plane = content.plane
    shared = _Shared(
        modality=content.modality,
        shape=(content.pixels.shape[0], content.pixels.shape[1]),
        spacing_mm=plane.spacing_mm,
        orientation=plane.orientation,
        thickness_mm=content.thickness_mm,
        technique=tuple(sorted(content.technique.items())),
        vendor=content.vendor,
        person=person,
        study=pseudonyms.uid("study", study),
        series=pseudonyms.uid("series", series),
        frame=pseudonyms.uid("frame", study),
    )
    head = _encode_head(shared)
    uid = pseudonyms.uid("instance", instance).encode()
    position = "\\".join(_decimal(value) for value in plane.position_mm).encode()
    meta = head.meta[0] + _element(0x00020003, b"UI", uid) + head.meta[1]
    pixels = np.ascontiguousarray(content.pixels, dtype=content.pixels.dtype.newbyteorder("<")).tobytes()
    return b"".join([
        *(bytes(128), b"DICM", _element(0x00020000, b"UL", struct.pack("<I", len(meta))), meta),
        *(head.data[0], _element(0x00080018, b"UI", uid), head.data[1], _element(0x00200032, b"DS", position)),
        *(head.data[2], struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", len(pixels)), pixels),
    ])  # fmt: skip


def encode_picture(grey: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Grey pixels as a PNG without any text or other metadata."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def clean_clinical(table: pd.DataFrame, pseudonyms: Pseudonyms) -> pd.DataFrame:
    """The clinical table with pseudonyms, pooled ages, and dates that count from each person's first.

    A person's first date stands as 1900-01-01, so that intervals stay and the calendar is gone; other columns than
    those of the contract are dropped.
    """
    table = table[list(COLUMNS)].copy()
    table["patient_id"] = [pseudonyms.patient(str(name)) for name in table["patient_id"]]
    table["age_years"] = [pool_age(int(age)) for age in table["age_years"]]
    first = table[list(DATES)].min(axis=1)
    for name in DATES:
        table[name] = DAY_ZERO + (table[name] - first)
    return table.sort_values("patient_id").reset_index(drop=True)


@dataclass(frozen=True)
class _Head:
    """Encoded elements: of the file meta around the instance, and of the data set around the instance and position."""

    meta: tuple[bytes, bytes]
    data: tuple[bytes, bytes, bytes]


@lru_cache(maxsize=32)
def _encode_head(shared: _Shared) -> _Head:
    """All but what differs from slice to slice, encoded once: that takes longer than the pixels do."""
    dataset, meta = Dataset(), FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = _sop_class(shared)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.2023232116")
    meta.ImplementationVersionName = IMPLEMENTATION
    for values in (_identity(shared), _geometry(shared), _technique(shared), _pixels(shared)):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    between = (dataset[:0x00080018], dataset[0x00080018:0x00200032], dataset[0x00200032:])
    before, middle, after = (_encode(each) for each in between)
    return _Head((_encode(meta[:0x00020003]), _encode(meta[0x00020003:])), (before, middle, after))


def _encode(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element with a short length (PS3.5 7.1.2), its value padded to an even one."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _sop_class(shared: _Shared) -> UID:
    return CTImageStorage if shared.modality == "ct" else MRImageStorage


def _identity(shared: _Shared) -> dict[str, Any]:
    codes: list[Dataset] = []
    for value, meaning in METHOD_CODES:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    is_ct, person = shared.modality == "ct", shared.person
    return {
        "SOPClassUID": _sop_class(shared),
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"] if is_ct else ["DERIVED", "PRIMARY", "OTHER"],
        "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "",
        "Modality": "CT" if is_ct else "MR", "Manufacturer": shared.vendor, "BodyPartExamined": "LSPINE",
        "PatientName": "", "PatientID": person.patient_id, "PatientBirthDate": "", "PatientSex": person.sex,
        "PatientAge": f"{person.age_years:03d}Y", "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": METHOD, "DeidentificationMethodCodeSequence": codes,
        "LongitudinalTemporalInformationModified": "REMOVED",
        "StudyInstanceUID": shared.study, "SeriesInstanceUID": shared.series, "StudyID": "", "SeriesNumber": None,
        "InstanceNumber": None, "PositionReferenceIndicator": "", "BurnedInAnnotation": "NO",
    }  # fmt: skip


def _geometry(shared: _Shared) -> dict[str, Any]:
    return {
        "FrameOfReferenceUID": shared.frame,
        "PixelSpacing": [_decimal(value) for value in shared.spacing_mm],
        "ImageOrientationPatient": [_decimal(value) for value in shared.orientation],
        "SliceThickness": "" if shared.thickness_mm is None else _decimal(shared.thickness_mm),
    }


def _technique(shared: _Shared) -> dict[str, Any]:
    known = {name: _decimal(value) for name, value in shared.technique}
    if shared.modality == "ct":
        return {"KVP": known.get("KVP", ""), "RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "HU",
                "AcquisitionNumber": None}  # fmt: skip
    return {
        "ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "",
        "RepetitionTime": known.get("RepetitionTime", ""), "EchoTime": known.get("EchoTime", ""),
        "EchoTrainLength": None, "MagneticFieldStrength": known.get("MagneticFieldStrength", ""),
    }  # fmt: skip


def _pixels(shared: _Shared) -> dict[str, Any]:
    return {
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "Rows": shared.shape[0], "Columns": shared.shape[1], "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 1 if shared.modality == "ct" else 0,
    }  # fmt: skip


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    text = f"{value:.6f}".rstrip("0").rstrip(".") or "0"
    return "0" if text == "-0" else text
