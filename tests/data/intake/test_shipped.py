"""The DICOM files that pydicom ships, some broken on purpose: a row each, with the right reason."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from tests.data.intake_files import SAGITTAL, clinical_table

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
# One of each kind. None is a sagittal image of the lumbar spine.
REASONS = {
    "CT_small.dcm": "few_slices",
    "693_J2KI.dcm": "few_slices",
    "MR_small.dcm": "other_weighting",
    "examples_overlay.dcm": "other_weighting",
    "J2K_pixelrep_mismatch.dcm": "other_body_part",  # a head
    "dicomdirtests/77654033/CT2/17106": "other_body_part",
    "dicomdirtests/77654033/CT2/17136": "other_body_part",
    "examples_rgb_color.dcm": "other_modality",  # ultrasound
    "ExplVR_BigEnd.dcm": "other_modality",
    "rtdose.dcm": "other_modality",
    "liver_1frame.dcm": "other_modality",  # a segmentation
    "rtplan_truncated.dcm": "other_modality",
    "dicomdirtests/DICOMDIR": "dicomdir",
    "image_dfl.dcm": "secondary_capture",
    "SC_rgb_jpeg.dcm": "secondary_capture",
    "no_meta.dcm": "not_an_image",  # its first byte is none of an element
    "README.txt": "not_an_image",
}
# The same image in every encoding.
ENCODINGS = (
    *("MR_small", "MR_small_implicit", "MR_small_bigendian", "MR_small_expb", "MR_small_padded"),
    *("MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_truncated"),
)


def test_every_shipped_file_has_its_row_and_reason(source, run_import, tmp_path):
    clinical_table("1CT1", "4MR1", "CQ500-CT-310", "021234567").to_csv(tmp_path / "clinical.csv", index=False)
    source.rmdir()
    source.symlink_to(SHIPPED)
    files = [path for path in SHIPPED.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    outcome, reasons = run_import(workers=2)
    assert outcome.inputs == len(reasons) == len(files) > 100
    assert not {"timeout", "crashed", "accepted"} & set(reasons.values())
    assert {name: reasons[name] for name in REASONS if name in reasons} == {
        name: reason for name, reason in REASONS.items() if (SHIPPED / name).exists()
    }
    assert {"no_pixels", "implausible", "localizer"} < set(reasons.values())


@pytest.mark.filterwarnings("ignore")  # the shipped files' own oddities
def test_an_image_is_the_same_in_every_encoding(source, run_import):
    for name in ENCODINGS:
        dataset = pydicom.dcmread(SHIPPED / f"{name}.dcm")
        dataset.PatientID, dataset.ImageOrientationPatient = "P1", SAGITTAL
        dataset.EchoTime, dataset.RepetitionTime, dataset.BurnedInAnnotation = "8", "500", "NO"
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        (source / f"{name}.dcm").write_bytes(buffer.getvalue())
    outcome, reasons = run_import()
    assert outcome.images == 1
    assert Counter(reasons.values()) == {"accepted": 1, "duplicate": len(ENCODINGS) - 2, "cut_short": 1}
    assert reasons["MR_truncated.dcm"] == "cut_short"
