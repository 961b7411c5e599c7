import io
import warnings

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from osteo_models.core.errors import ImageError
from osteo_models.data.image_file import read_image


def dicom_bytes(pixels: np.ndarray, **changes: object) -> bytes:
    """A minimal CT slice; a change to None takes the attribute out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    dataset = Dataset()
    dataset.file_meta = meta
    values: dict[str, object] = {
        "Modality": "CT",
        "PatientID": "P1",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelSpacing": [0.9, 0.8],
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
    }
    for name, value in (values | changes).items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" not in changes:
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_ct_values_are_hounsfield_units_and_the_header_is_read():
    image = read_image(dicom_bytes(RAMP), where="x")
    assert image.pixels.tolist() == (RAMP * 2.0 - 1000).tolist()
    assert (image.modality, image.patient_id, image.spacing_mm) == ("ct", "P1", (0.9, 0.8))


def test_monochrome1_is_turned_so_that_bright_is_high_but_hounsfield_units_are_not():
    changes = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 1, "RescaleIntercept": 0}
    image = read_image(dicom_bytes(RAMP, Modality="MR", **changes), where="x")
    assert image.pixels.tolist() == (RAMP.max() - RAMP).astype(float).tolist()
    assert read_image(dicom_bytes(RAMP, **changes), where="x").pixels.tolist() == RAMP.astype(float).tolist()


def test_a_picture_carries_neither_modality_nor_spacing():
    buffer = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint8)).save(buffer, "PNG")
    image = read_image(buffer.getvalue(), where="x")
    assert image.pixels.tolist() == RAMP.tolist()
    assert image.modality is None and image.spacing_mm is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image file that can be read"),
        (b"hello" * 100, "not an image file that can be read"),
        (b"\x89PNG\r\n\x1a\n broken", "picture: cannot be read"),
        (dicom_bytes(RAMP)[:200], "DICOM|Modality"),
        (dicom_bytes(RAMP)[:-5], "DICOM file: ends before its pixels do"),
        (dicom_bytes(RAMP, Modality="US"), "Modality 'US'; allowed: MR or CT"),
        (dicom_bytes(RAMP, Modality=None), "no Modality"),
        (dicom_bytes(RAMP, PixelData=None), "no pixel data"),
        (dicom_bytes(RAMP, NumberOfFrames=3), "3 frames"),
        (dicom_bytes(RAMP, SamplesPerPixel=3), "in colour"),
        (dicom_bytes(RAMP, Rows=60000, Columns=60000), "3,600,000,000 pixels"),
        (dicom_bytes(RAMP, PixelSpacing=[0, 1]), "not plausible"),
        (dicom_bytes(RAMP, RescaleSlope=None), "CT without its scale to Hounsfield units"),
    ],
)
def test_what_cannot_be_used_is_one_kind_of_error(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        read_image(data, where="scan.dcm")
    assert str(caught.value).startswith("scan.dcm: ")


def test_an_error_repeats_nothing_from_the_header():
    data = dicom_bytes(RAMP, PatientName="Doe^Jane", PatientID="SECRET")[:-5]
    with pytest.raises(ImageError) as caught:
        read_image(data, where="x")
    assert "SECRET" not in str(caught.value) and "Doe" not in str(caught.value)
