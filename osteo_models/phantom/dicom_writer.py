"""Slices as DICOM files: MR Image Storage and CT Image Storage, the same bytes on every run.

Every identifier is derived from the seed, every date from the clinical table, and the names that the writing library
would put in (with its version) are set here.

Source: DICOM PS3.3 A.4 (MR), A.3 (CT), C.7.6.2 (image plane), C.12.1 (SOP common); PS3.5 B.2 (2.25 UIDs); PS3.10 7.1.
"""

from __future__ import annotations

import io
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from osteo_models.phantom.anatomy import COLUMNS, CT_SLICE_MM, MR_SLICE_MM, ROWS, Anatomy
from osteo_models.phantom.population import Person
from osteo_models.phantom.random_fields import digest
from osteo_models.phantom.tissue import RESCALE_INTERCEPT, Stored

IMPLEMENTATION: Final = "OSTEO_PHANTOM_1"
COMMENT: Final = "Synthetic phantom image: no patient, no evidence"


class SliceWriter:
    """Encodes the slices of one person; what they share is set once."""

    def __init__(self, person: Person, anatomy: Anatomy, seed: int) -> None:
        self._person, self._anatomy, self._seed = person, anatomy, seed
        self._dataset = Dataset()
        for values in (_identity(person, seed), _geometry(anatomy, person), _technique(person, anatomy), _PIXELS):
            _set(self._dataset, values)
        self._dataset.file_meta = _file_meta(self._dataset.SOPClassUID)

    def encode(self, number: int, stored: Stored) -> bytes:
        """One DICOM file.

        Args:
            number: Of the slice, from 1.
            stored: 12-bit values of shape (ROWS, COLUMNS).
        """
        dataset, anatomy = self._dataset, self._anatomy
        uid = _uid(self._seed, self._person.patient_id, number)
        left = anatomy.positions[number - 1]
        half_columns, half_rows = ((count - 1) * anatomy.spacing / 2 for count in (COLUMNS, ROWS))
        corner = (left, -half_columns, half_rows)
        _set(dataset, {
            "SOPInstanceUID": uid, "InstanceNumber": number, "SliceLocation": _decimal(left),
            "ImagePositionPatient": [_decimal(value) for value in corner],
        })  # fmt: skip
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()


_PIXELS: Final = {
    "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": ROWS, "Columns": COLUMNS,
    "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "BurnedInAnnotation": "NO",
}  # fmt: skip


def _set(dataset: Dataset, values: dict[str, Any]) -> None:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)


def _uid(*names: object) -> str:
    return f"2.25.{int.from_bytes(digest('uid', *names)[:16], 'big')}"


def _file_meta(sop_class: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid(IMPLEMENTATION))
    meta.ImplementationVersionName = IMPLEMENTATION
    return meta


def _identity(person: Person, seed: int) -> dict[str, Any]:
    day = f"{person.imaging_date:%Y%m%d}"
    of_person = (seed, person.patient_id)
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "SOPClassUID": MRImageStorage if person.modality == "mri" else CTImageStorage,
        "StudyDate": day, "SeriesDate": day, "AcquisitionDate": day, "ContentDate": day,
        "StudyTime": "120000", "SeriesTime": "120000", "AcquisitionTime": "120000", "ContentTime": "120000",
        "AccessionNumber": "", "ReferringPhysicianName": "",
        "Modality": "MR" if person.modality == "mri" else "CT",
        "Manufacturer": "osteo-models (synthetic)", "ManufacturerModelName": "lumbar phantom",
        "DeviceSerialNumber": "0", "SoftwareVersions": IMPLEMENTATION,
        "StudyDescription": "Synthetic lumbar spine",
        "SeriesDescription": "T1 sagittal" if person.modality == "mri" else "Sagittal reformat, bone",
        "BodyPartExamined": "LSPINE",
        "PatientName": "", "PatientID": person.patient_id, "PatientBirthDate": "",
        "PatientSex": person.sex, "PatientAge": f"{person.age_years:03d}Y",
        "PatientIdentityRemoved": "YES", "DeidentificationMethod": "Synthetic: never belonged to a person",
        "StudyInstanceUID": _uid(*of_person, "study"), "SeriesInstanceUID": _uid(*of_person, "series"),
        "StudyID": "1", "SeriesNumber": 1, "AcquisitionNumber": 1,
        "FrameOfReferenceUID": _uid(*of_person, "frame"), "PositionReferenceIndicator": "",
        "ImageComments": COMMENT,
    }  # fmt: skip


def _geometry(anatomy: Anatomy, person: Person) -> dict[str, Any]:
    """Sagittal: columns run to the patient's back, rows to the feet, slices from right to left (PS3.3 C.7.6.2.1.1)."""
    return {
        "ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"],
        "PixelSpacing": [_decimal(anatomy.spacing)] * 2,
        "SliceThickness": _decimal(MR_SLICE_MM if person.modality == "mri" else CT_SLICE_MM),
        "SpacingBetweenSlices": _decimal(anatomy.slice_step),
    }


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _technique(person: Person, anatomy: Anatomy) -> dict[str, Any]:
    if person.modality == "ct":
        return {
            "ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"], "DerivationDescription": "Sagittal reformat",
            "RescaleIntercept": str(RESCALE_INTERCEPT), "RescaleSlope": "1", "RescaleType": "HU",
            "KVP": "120", "ConvolutionKernel": "BONE", "PatientPosition": "HFS",
            "WindowCenter": "340", "WindowWidth": "1000",
        }  # fmt: skip
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "PatientPosition": "HFS",
        "ScanningSequence": "SE", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "2D",
        "RepetitionTime": "400", "EchoTime": "7.7", "EchoTrainLength": 1, "MagneticFieldStrength": "1.5",
        "ImagingFrequency": "63.6", "ImagedNucleus": "1H", "NumberOfAverages": "1", "FlipAngle": "90",
        "AcquisitionMatrix": [ROWS, 0, 0, COLUMNS], "InPlanePhaseEncodingDirection": "ROW",
        "ReconstructionDiameter": _decimal(anatomy.spacing * ROWS), "ReceiveCoilName": "SPINE",
        "WindowCenter": "600", "WindowWidth": "1200",
    }  # fmt: skip
