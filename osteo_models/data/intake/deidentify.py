"""De-identification by writing new files: they hold what is listed here, whatever the source file held.

Nothing is filtered, so nothing can be forgotten: pixels, geometry and a few numbers of the technique are copied, every
identifier is a keyed pseudonym, and all text is defined here.

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
from pydicom.uid import UID, ExplicitVRLittleEndian

from osteo_models.core.terms import MODALITIES, ModalityEntry, is_hounsfield
from osteo_models.data.clinical import COLUMNS, DATES
from osteo_models.data.intake.headers import Acquisition
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
    """The person of an image: pseudonym, sex, pooled age."""

    patient_id: str
    sex: str
    age_years: int


def pool_age(age_years: int) -> int:
    """The age; 90 for all ages over 89."""
    return min(age_years, OLDEST_AGE_YEARS)


def encode_slice(
    content: Slice, person: Person, pseudonyms: Pseudonyms, *, study: str, series: str, instance: str
) -> bytes:
    """A slice as a de-identified DICOM file; equal input gives equal bytes.

    Args:
        content: The slice.
        person: Its person.
        pseudonyms: The key.
        study, series: UIDs in the source file, replaced here.
        instance: The same, made unique per slice by the caller.
    """
    plane, pixels = content.plane, content.pixels
    uids = {name: pseudonyms.uid(name, uid) for name, uid in (("study", study), ("series", series))}
    head = _encode_head(
        *(content.acquisition, person, pixels.shape, plane.spacing_mm, plane.orientation),
        *(uids["study"], uids["series"], pseudonyms.uid("frame", study)),
    )
    uid = pseudonyms.uid("instance", instance).encode()
    position = "\\".join(_decimal(value) for value in plane.position_mm).encode()
    meta = head[0] + _element(0x00020003, b"UI", uid) + head[1]
    values = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    return b"".join([
        *(bytes(128), b"DICM", _element(0x00020000, b"UL", struct.pack("<I", len(meta))), meta),
        *(head[2], _element(0x00080018, b"UI", uid), head[3], _element(0x00200032, b"DS", position)),
        *(head[4], struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", len(values)), values),
    ])  # fmt: skip


def encode_picture(grey: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Grey pixels as a PNG without any text or other metadata."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def clean_clinical(table: pd.DataFrame, pseudonyms: Pseudonyms) -> pd.DataFrame:
    """The clinical table with pseudonyms, pooled ages, and dates relative to each person's first.

    A person's first date becomes 1900-01-01, so that intervals are kept; columns outside the contract are dropped.
    """
    table = table[list(COLUMNS)].copy()
    table["patient_id"] = [pseudonyms.patient(str(name).strip()) for name in table["patient_id"]]
    table["age_years"] = [pool_age(int(age)) for age in table["age_years"]]
    first = table[list(DATES)].min(axis=1)
    for name in DATES:
        table[name] = DAY_ZERO + (table[name] - first)
    return table.sort_values("patient_id").reset_index(drop=True)


@lru_cache(maxsize=32)
def _encode_head(
    acquisition: Acquisition,
    person: Person,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float],
    orientation: tuple[float, ...],
    study: str,
    series: str,
    frame: str,
) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """What the slices of a series share, encoded once: that takes longer than the pixels do.

    Returns:
        The file meta before and after the instance UID; the data set before and after it, and after the position.
    """
    modality = MODALITIES[acquisition.modality]
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(modality.storage)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.2023232116")
    meta.ImplementationVersionName = IMPLEMENTATION
    values = _identity(person, modality, acquisition.vendor) | _technique(acquisition) | {
        **({"BurnedInAnnotation": "NO"} if acquisition.without_text else {}),
        "StudyInstanceUID": study, "SeriesInstanceUID": series, "FrameOfReferenceUID": frame,
        "PixelSpacing": [_decimal(value) for value in spacing_mm],
        "ImageOrientationPatient": [_decimal(value) for value in orientation],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": shape[0], "Columns": shape[1],
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": int(is_hounsfield(acquisition.modality)),
    }  # fmt: skip
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    parts = dataset[:0x00080018], dataset[0x00080018:0x00200032], dataset[0x00200032:]
    before, middle, after = (_encode(part) for part in parts)
    return _encode(meta[:0x00020003]), _encode(meta[0x00020003:]), before, middle, after


def _encode(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element with a short length (PS3.5 7.1.2), its value padded to an even one."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _identity(person: Person, modality: ModalityEntry, vendor: str) -> dict[str, Any]:
    codes: list[Dataset] = []
    for value, meaning in METHOD_CODES:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    return {
        "SOPClassUID": UID(modality.storage),
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL" if modality is MODALITIES["ct"] else "OTHER"],
        "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "",
        "Modality": modality.dicom_codes[0], "Manufacturer": vendor, "BodyPartExamined": "LSPINE",
        "PatientName": "", "PatientID": person.patient_id, "PatientBirthDate": "", "PatientSex": person.sex,
        "PatientAge": f"{person.age_years:03d}Y", "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": METHOD, "DeidentificationMethodCodeSequence": codes,
        "LongitudinalTemporalInformationModified": "REMOVED", "StudyID": "", "SeriesNumber": None,
        "InstanceNumber": None, "PositionReferenceIndicator": "",
    }  # fmt: skip


def _technique(acquisition: Acquisition) -> dict[str, Any]:
    numbers = {name: _decimal(value) for name, value in acquisition.technique}
    thickness = "" if acquisition.thickness_mm is None else _decimal(acquisition.thickness_mm)
    if acquisition.modality == "ct":
        return {"SliceThickness": thickness, "KVP": numbers.get("KVP", ""), "RescaleIntercept": "0",
                "RescaleSlope": "1", "RescaleType": "HU", "AcquisitionNumber": None}  # fmt: skip
    if acquisition.modality != "mri":
        return {"SliceThickness": thickness}
    return {
        "SliceThickness": thickness, "ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "",
        "MRAcquisitionType": "", "RepetitionTime": numbers.get("RepetitionTime", ""),
        "EchoTime": numbers.get("EchoTime", ""), "EchoTrainLength": None,
        "MagneticFieldStrength": numbers.get("MagneticFieldStrength", ""),
    }  # fmt: skip


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    text = f"{value:.6f}".rstrip("0").rstrip(".") or "0"
    return "0" if text == "-0" else text
