"""Headers as a table: hashed identifiers, the scanner, numbers where they are."""

import hashlib
import io
import math
import warnings

import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from osteo_models.core.errors import ImageError
from osteo_models.data.image_file import HEADER_COLUMNS, HEADER_NUMBERS, read_header, read_headers


def header_bytes(**values: object) -> bytes:
    """A DICOM file of a header alone."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in values.items():
            setattr(dataset, name, value)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


FULL = {
    "Modality": "MR",
    "PatientID": "P1",
    "StudyInstanceUID": "2.25.77",
    "SeriesInstanceUID": "2.25.78",
    "Manufacturer": "Maker ",
    "ManufacturerModelName": "Model 7",
    "MagneticFieldStrength": "1.5",
    "EchoTime": "7.7",
    "PixelSpacing": ["0.9", "0.8"],
    "Rows": 320,
}


def test_a_header_says_what_it_says():
    header = read_header(header_bytes(**FULL), where="x")
    assert header.scanner == "Maker Model 7 1.5 T"
    assert header.study == hashlib.sha256(b"2.25.77").hexdigest()[:16]
    assert (header.series != header.study, "2.25" in header.series) == (True, False)
    known = {name: value for name, value in header.numbers.items() if not math.isnan(value)}
    assert known == {"field_strength_t": 1.5, "echo_time_ms": 7.7, "pixel_spacing_mm": 0.9, "rows": 320.0}
    assert list(header.numbers) == list(HEADER_NUMBERS)


def test_a_silent_header_is_empty():
    header = read_header(header_bytes(PatientID="P1", Modality="CT", KVP=None), where="x")
    assert (header.study, header.series, header.scanner) == ("", "", "")
    assert list(header.numbers) == list(HEADER_NUMBERS)
    assert all(math.isnan(value) for value in header.numbers.values())


def test_a_picture_has_no_header():
    buffer = io.BytesIO()
    Image.new("L", (60, 80)).save(buffer, "PNG")
    header = read_header(buffer.getvalue(), where="x")
    assert (header.study, header.scanner) == ("", "")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (header_bytes(**FULL)[:200], "bad.dcm: no Modality (0008,0060); allowed: MR or CT"),
        (header_bytes(**(FULL | {"Modality": "US"})), "bad.dcm: Modality 'US'; allowed: MR or CT"),
    ],
)
def test_a_damaged_header_is_an_error(data, told):
    with pytest.raises(ImageError) as caught:
        read_header(data, where="bad.dcm")
    assert str(caught.value).startswith(told)


def test_the_table_is_in_the_images_order(tmp_path):
    for name, echo in (("a", "5"), ("b", "9")):
        (tmp_path / f"{name}.dcm").write_bytes(header_bytes(**(FULL | {"EchoTime": echo})))
    images = pd.DataFrame({"image_id": ["2", "1"], "path": ["b.dcm", "a.dcm"]})
    table = read_headers(images, tmp_path)
    assert tuple(table.columns) == HEADER_COLUMNS
    assert table["image_id"].tolist() == ["2", "1"]
    assert table["echo_time_ms"].tolist() == [9.0, 5.0]
    assert table["study"].nunique() == 1
