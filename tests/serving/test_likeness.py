"""Images unlike the training images are refused with the reason; those of new patients are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_sample_image

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.core.terms import MODALITIES
from osteo_models.serving.likeness import CHECKS, TURNS, Likeness, describe_images
from osteo_models.serving.likeness_file import load_likeness, save_likeness
from osteo_models.serving.likeness_fit import fit_likeness
from tests.data.bodies import draw_bodies


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    parts = [draw_bodies(name, patients=60, each=5, seed=1) for name in MODALITIES]
    images = np.concatenate([images for images, _ in parts])
    return fit_likeness(images, ["mri"] * 300 + ["ct"] * 300, [name for _, names in parts for name in names])


@pytest.fixture(scope="module")
def new() -> dict[str, np.ndarray]:
    """Images of other patients."""
    return {name: draw_bodies(name, patients=20, each=3, seed=2)[0] for name in MODALITIES}


@pytest.mark.parametrize("modality", MODALITIES)
def test_images_of_new_patients_pass(likeness, new, modality) -> None:
    faults = [likeness.find_fault(image, modality) for image in new[modality]]
    assert sum(fault is not None for fault in faults) <= 2, faults
    assert sum(likeness.find_fault(image, None) is not None for image in new[modality]) <= 2


def _resized(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((60, 80), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: _resized(np.rot90(image)), "orientation: it would fit turned by 270 degrees"),
        (lambda image: np.rot90(image, 2), "orientation: it would fit turned by 180 degrees"),
        (lambda image: _resized(np.rot90(image, 3)), "orientation: it would fit turned by 90 degrees"),
        (lambda image: image[:, ::-1], "orientation: it would fit mirrored"),
        (lambda image: image[::-1], "orientation: it would fit turned upside down"),
        (lambda image: 255 - image, "intensity"),
        (lambda image: np.full_like(image, 128), "intensity"),
        (lambda image: np.random.default_rng(0).integers(0, 256, image.shape).astype(np.uint8), "intensity"),
    ],
)
def test_each_fault_has_its_reason(likeness, new, modality, change, reason) -> None:
    faults = [likeness.find_fault(change(image), modality) for image in new[modality][:20]]
    assert None not in faults
    assert sum(fault.startswith(reason) for fault in faults) >= 18, faults


@pytest.mark.parametrize(("modality", "other"), [("mri", "ct"), ("ct", "mri")])
def test_the_other_modality_is_recognised(likeness, new, modality, other) -> None:
    faults = [likeness.find_fault(image, modality) for image in new[other]]
    assert faults.count(f"modality: it looks like {other}, not like {modality}") >= 58, faults
    assert None not in faults


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("modality", [*MODALITIES, None])
def test_photographs_are_refused(likeness, name, modality) -> None:
    photograph = np.asarray(Image.fromarray(load_sample_image(name)).convert("L"))
    assert likeness.find_fault(_resized(photograph), modality) is not None


@given(image=arrays(np.uint8, (80, 60), elements=st.integers(0, 255)))
@settings(max_examples=20, deadline=None)
def test_any_image_gets_an_answer(likeness, image) -> None:
    assert isinstance(likeness.find_fault(image, "mri"), str)


def test_the_limits_come_from_patients_left_out(likeness) -> None:
    images, patients = draw_bodies("mri", patients=60, each=5, seed=1)
    assert sum(likeness.find_fault(image, "mri") is not None for image in images) <= 9  # of 300
    reference = likeness.references["mri"]
    assert len(reference.limits) == len(CHECKS) == 3 + len(TURNS)
    alone = fit_likeness(images, ["mri"] * 300, patients)
    assert alone.references["mri"].limits[CHECKS.index("modality")] == 0
    assert np.allclose(alone.references["mri"].limits[:2], reference.limits[:2])
    assert alone.find_fault(draw_bodies("ct", patients=2, each=1, seed=3)[0][0], "mri") is not None


def test_a_turned_image_is_seen_as_the_image_of_it_would_be(new) -> None:
    images = new["mri"]
    seen = describe_images(images).turned
    for name in ("turned by 180 degrees", "mirrored", "turned upside down"):
        assert np.allclose(seen[name], describe_images(TURNS[name](images)).structure, rtol=0, atol=1e-12)
    back = describe_images(np.stack([np.asarray(Image.fromarray(np.rot90(one)).resize((60, 80))) for one in images]))
    assert np.abs(seen["turned by 90 degrees"] - back.structure).mean() < 0.1  # by another resampling


def test_a_single_patient_is_no_reference() -> None:
    images, _ = draw_bodies("mri", patients=1, each=5, seed=1)
    with pytest.raises(InputError, match="reference of mri: images of one patient; allowed: two patients or more"):
        fit_likeness(images, ["mri"] * 5, ["p"] * 5)


def test_the_file_gives_the_same_answers_and_holds_no_code(likeness, new, tmp_path: Path) -> None:
    path = tmp_path / "likeness.safetensors"
    save_likeness(path, likeness)
    assert path.stat().st_size < 200_000
    again, images = load_likeness(path), [*new["mri"][:5], *(255 - new["ct"][:5])]
    faults = [[each.find_fault(image, name) for image in images for name in MODALITIES] for each in (likeness, again)]
    assert faults[0] == faults[1] and None in faults[0] and any(faults[0])


def test_the_limits_of_a_single_modality_are_finite(tmp_path: Path) -> None:
    images, patients = draw_bodies("mri", patients=60, each=5, seed=1)
    alone = fit_likeness(images, ["mri"] * len(images), patients)
    save_likeness(tmp_path / "likeness.safetensors", alone)
    again = load_likeness(tmp_path / "likeness.safetensors")
    assert np.isfinite(again.references["mri"].limits).all()
    assert sum(again.find_fault(image, "mri") is None for image in images) > 0.9 * len(images)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("missing", "No such file"),
        ("truncated", "no reference of training images"),
        ("empty", "no reference of training images; allowed: mri or ct"),
        ("shape", "`ct.tones` has other shapes or values"),
        ("nan", "`mri.structure` has other shapes or values"),
        ("limits", "`mri.limits` has other shapes or values"),
        ("infinite", "`mri.limits` has other shapes or values"),
        ("large", "bytes; allowed: up to 4,000,000"),
    ],
)
def test_a_broken_file_is_refused(likeness, tmp_path: Path, fault, found) -> None:
    path = tmp_path / "likeness.safetensors"
    save_likeness(path, likeness)
    tensors = load_file(path)
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif fault == "large":
        path.write_bytes(bytes(4_000_001))
    else:
        if fault == "shape":
            tensors["ct.tones.axes"] = np.ascontiguousarray(tensors["ct.tones.axes"].T)
        tensors["mri.structure.mean"][0] = np.nan if fault == "nan" else 0
        tensors["mri.limits"] = tensors["mri.limits"][:2] if fault == "limits" else tensors["mri.limits"]
        if fault == "infinite":
            tensors["mri.limits"][0] = np.inf
        save_file({} if fault == "empty" else tensors, path)
    with pytest.raises(WeightsError, match=found):
        load_likeness(path)
