"""`osteo explain` on files, with a version of the registry."""

import json

import numpy as np
import pytest
from PIL import Image

from osteo_models.core.errors import InputError
from osteo_models.registry.package import load_version
from osteo_models.serving.explain_files import LIST, explain_path
from osteo_models.serving.predict import predict_path
from tests.data.test_image_file import dicom_bytes

SLICE = np.random.default_rng(3).integers(0, 1000, (120, 100)).astype(np.uint16)


@pytest.fixture
def multimodal(register, stage):
    return register(stage(4), architecture="multimodal", images="multimodal").name


@pytest.fixture
def folder(tmp_path):
    """Slices of two modalities in two folders, one name twice; a picture and a text."""
    folder = tmp_path / "in"
    for place in ("x", "y"):
        (folder / place).mkdir(parents=True)
    (folder / "x" / "a.dcm").write_bytes(dicom_bytes(SLICE, PatientID="P7"))
    (folder / "y" / "a.dcm").write_bytes(dicom_bytes(SLICE[::-1], PatientID="P8", Modality="MR"))
    Image.fromarray((SLICE[:80, :60] // 4).astype(np.uint8)).save(folder / "c.jpg")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_gives_a_picture_for_each_image_and_method(tracking, multimodal, folder, tmp_path):
    out = tmp_path / "deep" / "out"
    said = explain_path(load_version(tracking, multimodal), folder, "mri", out=out, seed=1)
    files = ("x/a.dcm", "y/a.dcm", "c.jpg")
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == {LIST} | {
        f"{file}-{method}.png" for file in files for method in ("gradcampp", "smoothgrad")
    }
    assert [(each.file[-5:], each.modality, each.method) for each in said.explanations] == [
        *(("c.jpg", "mri", "gradcampp"), ("c.jpg", "mri", "smoothgrad")),
        *(("a.dcm", "ct", "gradcampp"), ("a.dcm", "ct", "smoothgrad")),
        *(("a.dcm", "mri", "gradcampp"), ("a.dcm", "mri", "smoothgrad")),
    ]
    for each in said.explanations:
        with Image.open(each.picture) as picture:
            assert picture.format == "PNG" and min(picture.size) > 250
    predicted = {
        image.file: (image.score, image.decision)
        for image in predict_path(load_version(tracking, multimodal), folder, "mri").images
    }
    assert {each.file: (each.score, each.decision) for each in said.explanations} == predicted
    (refused,) = said.refused
    assert refused.file.endswith("notes.txt") and refused.reason.startswith("not an image file")
    assert json.loads((out / LIST).read_text()) == said.as_dict()
    lines = list(said.as_lines())
    assert "trained on a synthetic cohort" in lines[0] and lines[-1].endswith("not a medical device.")
    assert not said.compared and "no reference of its training images" in lines[1]
    assert len(lines) == 2 + 6 + 1 + 1


def test_equal_seeds_give_equal_pictures(tracking, multimodal, folder, tmp_path):
    made = {}
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        explain_path(load_version(tracking, multimodal), folder / "x", None, out=tmp_path / name, seed=seed)
        made[name] = {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")}
    assert made["one"] == made["two"] and len(made["one"]) == 2
    assert made["one"]["a.dcm-smoothgrad.png"] != made["three"]["a.dcm-smoothgrad.png"]
    assert made["one"]["a.dcm-gradcampp.png"] == made["three"]["a.dcm-gradcampp.png"]


def test_what_is_wrong_is_told_and_nothing_is_written(tracking, multimodal, folder, tmp_path):
    out = tmp_path / "out"
    for path, message in (
        (folder / "nothing", "no such file or folder"),
        (folder / "notes.txt", "not an image file that can be read"),
        (folder / "c.jpg", r"a picture does not say .* say it with --modality"),
    ):
        with pytest.raises(InputError, match=message):
            explain_path(load_version(tracking, multimodal), path, None, out=out, seed=0)
    with pytest.raises(InputError, match="no such-model|no registered model"):
        explain_path(load_version(tracking, "no-such-model"), folder, "ct", out=out, seed=0)
    assert not out.exists()
    with pytest.raises(InputError, match="a file, not a folder; name another folder with --out"):
        explain_path(load_version(tracking, multimodal), folder, "ct", out=folder / "notes.txt", seed=0)
    assert (folder / "notes.txt").read_text() == "no image"
    with pytest.raises(InputError, match=r"in.x: is in the folder that is read; name another folder with --out"):
        explain_path(load_version(tracking, multimodal), folder, "ct", out=folder / "x", seed=0)
    with pytest.raises(InputError, match=r"cannot be made \(Not a directory\); name another folder with --out"):
        explain_path(load_version(tracking, multimodal), folder / "x", None, out=folder / "notes.txt" / "deep", seed=0)
