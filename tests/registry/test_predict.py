"""`osteo predict` on files, with a version of the registry."""

import base64

import numpy as np
import pytest

from osteo_models.errors import InputError
from osteo_models.predict import predict_path
from osteo_models.registry.serving import encode_picture
from tests.data.test_dicom import dicom_bytes

PICTURE = base64.b64decode(encode_picture(np.tile(np.arange(60, dtype=np.uint8) * 4, (80, 1))))
SLICE = np.random.default_rng(3).integers(0, 1000, (120, 100)).astype(np.uint16)


@pytest.fixture
def multimodal(register, stage):
    return register(stage(4), architecture="multimodal", images="multimodal").name


@pytest.fixture
def folder(tmp_path):
    """Two slices of a patient, a picture and a text."""
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(SLICE, PatientID="P7"))
    (tmp_path / "b.dcm").write_bytes(dicom_bytes(SLICE[::-1], PatientID="P7", Modality="MR"))
    (tmp_path / "c.png").write_bytes(PICTURE)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_gives_images_patients_and_what_was_refused(tracking, multimodal, folder):
    said = predict_path(tracking, folder, multimodal, "mri")
    assert [(image.file[-5:], image.modality) for image in said.images] == [
        *(("a.dcm", "ct"), ("b.dcm", "mri")),
        ("c.png", "mri"),
    ]
    (patient,) = said.patients
    assert (patient.patient_id, patient.images) == ("P7", 2)
    assert patient.score == pytest.approx(np.mean([image.score for image in said.images[:2]]))
    assert patient.decision == ("osteoporosis" if patient.score >= 0.5 else "control")
    assert len(said.refused) == 1 and "notes.txt: not an image file" in said.refused[0]
    assert said.synthetic and "synthetic cohort" in next(said.as_lines())
    assert said.as_dict()["notice"].endswith("not a medical device.")


def test_a_picture_needs_its_modality_said(tracking, multimodal, folder):
    with pytest.raises(InputError, match=r"c\.png: a picture does not say .*allowed: mri, ct; say it with --modality"):
        predict_path(tracking, folder / "c.png", multimodal, None)


def test_a_single_wrong_file_is_told_plainly(tracking, multimodal, folder):
    with pytest.raises(InputError) as caught:
        predict_path(tracking, folder / "notes.txt", multimodal, "ct")
    assert str(caught.value).startswith(f"{folder / 'notes.txt'}: not an image file that can be read")
    with pytest.raises(InputError, match="no such file or folder"):
        predict_path(tracking, folder / "nothing", multimodal, None)


def test_a_folder_without_an_image_and_an_unknown_version(tracking, multimodal, tmp_path):
    with pytest.raises(InputError, match="nothing to score: an empty folder"):
        predict_path(tracking, tmp_path, multimodal, None)
    (tmp_path / "c.png").write_bytes(PICTURE)
    with pytest.raises(InputError, match="no-such-model"):
        predict_path(tracking, tmp_path, "no-such-model@champion", None)
