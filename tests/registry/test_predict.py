"""`osteo predict` and `osteo score` on files, with versions of the registry."""

import base64
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from osteo_models.core.errors import InputError
from osteo_models.models import build
from osteo_models.registry.manifest import read_manifest
from osteo_models.registry.package import load_version, open_package
from osteo_models.registry.registration import register_version
from osteo_models.registry.runs import JobRun
from osteo_models.registry.versions import get_version
from osteo_models.serving.batch import patients_path, score_folder
from osteo_models.serving.ensemble import write_ensemble
from osteo_models.serving.explain_files import explain_path
from osteo_models.serving.predict import predict_path
from osteo_models.serving.score_table import encode_picture
from osteo_models.training.checkpoint import save_weights
from tests.data.bodies import draw_bodies
from tests.data.test_image_file import dicom_bytes
from tests.registry.conftest import PREPARE, TAGS, stage_metrics
from tests.serving.ood_cases import write_ood

pytestmark = pytest.mark.usefixtures("one_thread")
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
    said = predict_path(load_version(tracking, multimodal), folder, "mri")
    assert [(image.file[-5:], image.modality) for image in said.images] == [
        *(("a.dcm", "ct"), ("b.dcm", "mri")),
        ("c.png", "mri"),
    ]
    (patient,) = said.patients
    assert (patient.patient_id, patient.images) == ("P7", 2)
    assert patient.score == pytest.approx(np.mean([image.score for image in said.images[:2]]))
    assert patient.decision == ("osteoporosis" if patient.score >= 0.5 else "control")
    assert [Path(each.file).name for each in said.refused] == ["notes.txt"]
    assert said.refused[0].reason.startswith("not an image file")
    assert said.synthetic and "synthetic cohort" in next(said.as_lines())
    assert said.as_dict()["notice"].endswith("not a medical device.")


def test_a_picture_needs_its_modality_said(tracking, multimodal, folder):
    with pytest.raises(InputError, match=r"c\.png: a picture does not say .*allowed: mri, ct; say it with --modality"):
        predict_path(load_version(tracking, multimodal), folder / "c.png", None)


def test_a_single_wrong_file_is_told_plainly(tracking, multimodal, folder):
    with pytest.raises(InputError) as caught:
        predict_path(load_version(tracking, multimodal), folder / "notes.txt", "ct")
    assert str(caught.value).startswith(f"{folder / 'notes.txt'}: not an image file that can be read")
    with pytest.raises(InputError, match="no such file or folder"):
        predict_path(load_version(tracking, multimodal), folder / "nothing", None)


def test_a_folder_without_an_image_and_an_unknown_version(tracking, multimodal, tmp_path):
    with pytest.raises(InputError, match="nothing to score: an empty folder"):
        predict_path(load_version(tracking, multimodal), tmp_path, None)
    (tmp_path / "c.png").write_bytes(PICTURE)
    with pytest.raises(InputError, match="no-such-model"):
        predict_path(load_version(tracking, "no-such-model@champion"), tmp_path, None)


@pytest.fixture(scope="module")
def ensemble(tracking, tmp_path_factory):
    """A registered ensemble of three that knows its training images, drawn bodies."""
    place = tmp_path_factory.mktemp("ensemble")
    weights = [place / f"fold-{seed}" / "model.safetensors" for seed in (1, 2, 3)]
    for seed, path in enumerate(weights, start=1):
        save_weights(path, build("unimodal", seed=seed), {})
    record = {"architecture": "unimodal", "spec": {}, "images": "mri", "recipe": {"precision": "float32"}}
    record |= {"prepare": PREPARE, "threshold": 0.5}
    write_ensemble(place / "model", record, weights, key="e" * 16)
    write_ood(place / "model")
    job = JobRun("e" * 16, "stage-1", "unimodal-mri-patient", {}, TAGS, "lumbar-cohort", "d" * 32, "data.dvc", 2041)
    run_id = tracking.begin_job(job)
    metrics = stage_metrics(1) | stage_metrics(5)
    return register_version(tracking, model_folder=place / "model", metrics=metrics, tags=TAGS, run_id=run_id).name


@pytest.fixture
def pictures(tmp_path):
    """Two images like those in training, one upside down, one of the other modality, a photograph, a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    mri, ct = (draw_bodies(name, patients=2, each=1, seed=9)[0] for name in ("mri", "ct"))
    photograph = Image.fromarray(load_sample_image("china.jpg")).convert("L")
    for name, pixels in {"a": mri[0], "b": mri[1], "down": mri[0][::-1], "ct": ct[0]}.items():
        (folder / f"{name}.png").write_bytes(base64.b64decode(encode_picture(pixels)))
    photograph.save(folder / "photograph.jpg")
    (folder / "notes.txt").write_text("no image")
    return folder


REASONS = {
    "ct.png": "out of distribution of the training images: modality: it looks like ct, not like mri; `allow_ood`",
    "down.png": "out of distribution of the training images: orientation: it would fit turned upside down; ",
    "notes.txt": "not an image file that can be read",
    "photograph.jpg": "out of distribution of the training images: ",
}


def test_what_does_not_look_like_the_training_images_is_refused(tracking, ensemble, pictures):
    said = predict_path(load_version(tracking, ensemble), pictures, "mri")
    assert [Path(image.file).name for image in said.images] == ["a.png", "b.png"]
    assert {Path(each.file).name: each.reason.startswith(REASONS[Path(each.file).name]) for each in said.refused} == (
        dict.fromkeys(REASONS, True)
    )
    for image in said.images:
        assert image.uncertainty == pytest.approx(np.std(image.members, ddof=1))
        assert image.score == pytest.approx(np.mean(image.members)) and len(image.members) == 3
        assert image.agreement in (2 / 3, 1.0) and image.ood is None
    lines = list(said.as_lines())
    assert lines[1] == "mean of 3 networks; +- is their standard deviation"
    assert " +- " in lines[2] and lines[2].endswith("agree")
    assert sum(line.startswith("  refused: ") for line in lines) == 4


def test_told_to_accept_them_it_scores_them_and_says_so(tracking, ensemble, pictures):
    said = predict_path(load_version(tracking, ensemble), pictures, "mri", allow_ood=True)
    unlike = {Path(image.file).name: image.ood for image in said.images}
    assert unlike["a.png"] is None and unlike["ct.png"] == "modality: it looks like ct, not like mri"
    assert [Path(each.file).name for each in said.refused] == ["notes.txt"]
    assert any("; out of distribution: orientation" in line for line in said.as_lines())


def test_what_is_kept_with_it_is_in_its_manifest_and_explain_sends_elsewhere(tracking, ensemble, pictures, tmp_path):
    version = get_version(tracking, ensemble)
    with open_package(tracking, version) as package:
        listed = set(read_manifest(package.folder))
    assert {f"artifacts/{name}" for name in ("model.safetensors", "model.json", "ood.safetensors")} <= listed
    with pytest.raises(InputError, match=r"a fold ensemble of 3 networks, .*such as osteo-unimodal-mri$"):
        explain_path(load_version(tracking, ensemble), pictures / "a.png", None, out=tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


def test_explain_takes_and_refuses_the_same_images(tracking, register, stage, make_model, pictures, tmp_path):
    folder = make_model("f" * 16)
    write_ood(folder)
    name = register(stage(5), folder=folder).name
    given = {"seed": 1}
    with pytest.raises(InputError, match=r"down\.png: out of distribution of the training images: .*--allow-ood"):
        explain_path(load_version(tracking, name), pictures / "down.png", None, out=tmp_path / "no", **given)
    said = explain_path(
        load_version(tracking, name), pictures / "down.png", None, out=tmp_path / "yes", allow_ood=True, **given
    )
    assert said.compared and {each.ood for each in said.explanations} == {
        "orientation: it would fit turned upside down"
    }
    assert sum("; out of distribution: orientation" in line for line in said.as_lines()) == 2


def test_a_version_without_a_reference_says_so(tracking, multimodal, folder):
    said = predict_path(load_version(tracking, multimodal), folder, "mri")
    assert not said.compared and said.members == 1
    assert "this version has no reference of its training images" in list(said.as_lines())[1]


def test_predict_and_score_refuse_what_is_far_in_the_network_s_own_features(
    tracking, register, stage, make_model, pictures, tmp_path
):
    folder = make_model("9" * 16)
    write_ood(folder)
    name = register(stage(5), folder=folder).name
    with pytest.raises(InputError, match=r"photograph\.jpg: out of distribution .*: \w+: "):
        predict_path(load_version(tracking, name), pictures / "photograph.jpg", None)
    said = predict_path(load_version(tracking, name), pictures / "a.png", None)
    assert said.compared and said.notices == () and said.images[0].ood is None
    table = score_folder(load_version(tracking, name), pictures, tmp_path / "scores.csv", modality="mri")
    assert {Path(each.file).name for each in table.refused} >= {"photograph.jpg", "ct.png", "notes.txt"}
    whole = predict_path(load_version(tracking, name), pictures / "photograph.jpg", None, allow_ood=True)
    assert whole.images[0].ood


def test_patients_have_the_uncertainty_of_the_members_means(tracking, ensemble, tmp_path):
    folder = tmp_path / "patient"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 1000, (120, 100)).astype(np.uint16)
        (folder / f"{number}.dcm").write_bytes(dicom_bytes(pixels, PatientID="P7", Modality="MR"))
    said = predict_path(load_version(tracking, ensemble), folder, None, allow_ood=True)
    (patient,) = said.patients
    means = np.mean([image.members for image in said.images], axis=0)
    assert patient.images == 3 and patient.score == pytest.approx(means.mean())
    assert patient.uncertainty == pytest.approx(means.std(ddof=1))
    assert patient.agreement == pytest.approx(np.mean((means >= 0.5) == (means.mean() >= 0.5)))


def test_score_leaves_a_row_for_every_file(tracking, ensemble, pictures, tmp_path):
    out = tmp_path / "out" / "scores.csv"
    said = score_folder(load_version(tracking, ensemble), pictures, out, modality="mri")
    table = pd.read_csv(out)
    assert table["file"].tolist() == sorted(str(path) for path in pictures.iterdir())
    assert table["score"].notna().tolist() == table["reason"].isna().tolist()
    assert table["score"].count() == len(said.images) == 2
    assert set(table["model"]) == {ensemble}
    assert patients_path(out) == out.with_name("scores-patients.csv")
    assert pd.read_csv(patients_path(out)).empty  # pictures name nobody
    whole = score_folder(load_version(tracking, ensemble), pictures, out, modality="mri", allow_ood=True)
    assert len(whole.images) == 5 and pd.read_csv(out)["ood"].count() == 3


def test_score_explains_where_nothing_could_be_scored(tracking, ensemble, pictures, tmp_path):
    for name in ("a.png", "b.png"):
        (pictures / name).unlink()
    out = tmp_path / "scores.csv"
    with pytest.raises(
        InputError, match=rf"none of 4 files could be scored, such as .*; the reasons are in {out}"
    ) as caught:
        score_folder(load_version(tracking, ensemble), pictures, out, modality="mri")
    assert caught.value.exit_code == 2
    assert pd.read_csv(out)["reason"].count() == 4
