"""DICOM files made for intake tests: one slice, and what can be done to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from osteo_models.data.clinical import COLUMNS
from osteo_models.data.intake.pseudonyms import Pseudonyms

SAGITTAL = [0, 1, 0, 0, 0, -1]
AXIAL = [1, 0, 0, 0, 1, 0]
KEY = Pseudonyms(bytes(range(32)))
# A program that imports: source, clinical table, data set.
IMPORT = """
import sys
from pathlib import Path
from osteo_models.data.intake.importer import import_source
from osteo_models.data.intake.pseudonyms import Pseudonyms
if __name__ == "__main__":
    source, clinical, out = map(Path, sys.argv[1:])
    import_source(source, clinical, out, Pseudonyms(bytes(range(32))), workers=2)
"""


def make_dicom(modality: str = "MR", *, patient: str = "P1", seed: int = 0, **changes: object) -> Dataset:
    """A data set that intake accepts, but for `changes`; a change to None deletes the attribute."""
    rng = np.random.default_rng(seed)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient, modality])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, modality, "series"])
    dataset.Modality, dataset.PatientID, dataset.ImageType = modality, patient, ["ORIGINAL", "PRIMARY"]
    dataset.PixelSpacing, dataset.SliceThickness = [1.2, 1.1], "3.5"
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = SAGITTAL, [float(seed), -40.0, 60.0]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 64, 48, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    if modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
    else:
        dataset.RepetitionTime, dataset.EchoTime = "400", "7.7"
    dataset.PixelData = rng.integers(0, 3000, (64, 48), dtype=np.uint16).tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_bytes(dataset: Dataset) -> bytes:
    """The data set as a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def clinical_table(*patients: str, age: int = 50) -> pd.DataFrame:
    """A clinical table of women with a DXA and imaging a month later."""
    row = dict.fromkeys(COLUMNS, "") | {
        "source": "dxa", "sex": "F", "age_years": str(age), "postmenopausal": "1", "glucocorticoids": "0",
        "dxa_date": "2019-03-01", "mri_date": "2019-04-01", "ct_date": "2019-04-02",
        **{f"t_score_l{level}": "-2.0" for level in range(1, 5)},
    }  # fmt: skip
    return pd.DataFrame([row | {"patient_id": patient} for patient in patients])
