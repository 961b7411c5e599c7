import io

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from osteo_models.data.dicom_file import parse_dicom
from osteo_models.data.intake.deidentify import Person, encode_picture, encode_slice
from osteo_models.data.intake.headers import read_header
from osteo_models.data.intake.identity_check import find_identity, find_in_file
from osteo_models.data.intake.slices import decode_slices
from tests.data.intake_files import KEY, as_bytes, make_dicom

PERSON = Person("0123456789ab", "F", 61)


@pytest.fixture
def clean() -> pydicom.Dataset:
    dataset = parse_dicom(as_bytes(make_dicom(seed=4)))
    (one,) = decode_slices(dataset, read_header(dataset))
    data = encode_slice(one, PERSON, KEY, study="1.2", series="1.3", instance="1.4")
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_what_intake_writes_is_what_pydicom_would_write(modality):
    dataset = parse_dicom(as_bytes(make_dicom(modality, seed=4)))
    (one,) = decode_slices(dataset, read_header(dataset))
    for instance in ("1.4", "1.5", "1.6"):
        data = encode_slice(one, PERSON, KEY, study="1.2", series="1.3", instance=instance)
        read = pydicom.dcmread(io.BytesIO(data))
        assert [str(element.value) for element in read.file_meta]  # every value can be read
        assert read.SOPInstanceUID == read.file_meta.MediaStorageSOPInstanceUID == KEY.uid("instance", instance)
        assert np.array_equal(read.pixel_array, one.pixels)
        assert as_bytes(read) == data


def test_what_intake_writes_is_clean(clean):
    assert find_in_file(as_bytes(clean)) == []
    assert find_in_file(encode_picture(np.zeros((80, 60), np.uint8))) == []


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("PatientName", "Doe^J", "(0010,0010): a name"),
        ("StudyDate", "20190301", "(0008,0020): a date or time"),
        ("StudyInstanceUID", "1.2.3.4", "(0020,000d): an identifier that is not ours"),
        ("PatientAge", "095Y", "(0010,1010): an age over 90"),
        ("StationName", "ROOM7", "(0008,1010): free text"),
        ("InstitutionName", "A hospital", "(0008,0080): free text"),
        ("PatientComments", "x", "(0010,4000): free text"),
    ],
)
def test_each_kind_of_trace_is_found(clean, keyword, value, said):
    setattr(clean, keyword, value)
    assert find_in_file(as_bytes(clean)) == [said]


def test_places_outside_the_attributes_are_looked_at(clean):
    block = clean.private_block(0x0099, "MAKER", create=True)
    block.add_new(1, "LO", "x")
    clean.preamble = b"x" * 128
    found = find_in_file(as_bytes(clean) + b"tail")
    assert "preamble: not empty" in found and "bytes after the last element" in found
    assert sum("private" in fault for fault in found) == 2
    noted = PngImagePlugin.PngInfo()
    noted.add_text("Author", "somebody")
    buffer = io.BytesIO()
    Image.new("L", (60, 80)).save(buffer, format="PNG", pnginfo=noted)
    assert find_in_file(buffer.getvalue()) == ["picture metadata: 1 entries"]


def test_names_of_files_are_told_by_number_only(clean, tmp_path):
    images, label_maps = (tmp_path / name / "0123456789ab" for name in ("dicom", "vertebrae"))
    images.mkdir(parents=True)
    label_maps.mkdir(parents=True)
    (images / "mri-0123456789abcdef.dcm").write_bytes(as_bytes(clean))
    (images / "Doe_J.dcm").write_bytes(as_bytes(clean))
    noted = PngImagePlugin.PngInfo()
    noted.add_text("Description", "Doe, J")
    Image.new("L", (60, 80)).save(label_maps / "mri-0123456789abcdef.png", pnginfo=noted)
    assert find_identity(tmp_path) == [
        "file 1: its name is no pseudonym",
        "0123456789ab/mri-0123456789abcdef.png: picture metadata: 1 entries",
    ]
