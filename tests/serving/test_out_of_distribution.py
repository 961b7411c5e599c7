"""Images that are out of distribution are refused with the reason; those of new patients are not."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_sample_image
from torch import nn

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.core.terms import MODALITIES
from osteo_models.models import build
from osteo_models.serving.ensemble import write_ensemble
from osteo_models.serving.network import OOD, LoadedNetwork, read_network
from osteo_models.serving.network_features import capture_features
from osteo_models.serving.ood_fit import add_features, choose_rows, fit_pixels, fit_ppca
from osteo_models.serving.out_of_distribution import TURNS, describe_images, describe_structure, save_ood
from osteo_models.serving.score_table import encode_picture, score_table
from osteo_models.training.checkpoint import save_weights
from osteo_models.training.inference import score_images
from tests.data.bodies import draw_bodies
from tests.registry.conftest import PREPARE
from tests.serving.ood_cases import COUNT, draw_training, fit_pixels_once, write_ood

pytestmark = pytest.mark.usefixtures("one_thread")
NEW = {name: draw_bodies(name, patients=20, each=3, seed=2)[0] for name in MODALITIES}
NOISE = np.random.default_rng(0).integers(0, 256, (80, 60)).astype(np.uint8)


@pytest.fixture(scope="module", params=["single", "ensemble"])
def network(request, tmp_path_factory: pytest.TempPathFactory) -> LoadedNetwork:
    """A multimodal network, or three of them, with the reference of its training images."""
    return read_network(write_ood(_make_model(tmp_path_factory.mktemp("models"), request.param == "ensemble")))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ood(_make_model(tmp_path_factory.mktemp("sound"), together=False))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A model folder, to be changed."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def _make_model(place: Path, together: bool) -> Path:
    weights = [place / str(seed) / "model.safetensors" for seed in (1, 2, 3)]
    for seed, path in enumerate(weights, start=1):
        save_weights(path, build("multimodal", seed=seed), {})
    record = {"architecture": "multimodal", "spec": {}, "images": "multimodal", "key": "0" * 16, "threshold": 0.5}
    record |= {"recipe": {"precision": "float32"}, "prepare": PREPARE}
    (weights[0].parent / "model.json").write_text(json.dumps(record), encoding="utf-8")
    if together:
        write_ensemble(place / "ensemble", record, weights, key="k")
    return place / "ensemble" if together else weights[0].parent


def _resize(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((60, 80), Image.Resampling.BILINEAR))


def _draw_axial() -> np.ndarray:
    """A round body with a vertebra in it, as an axial slice shows it."""
    picture = Image.new("L", (60, 80), 10)
    draw = ImageDraw.Draw(picture)
    for box, grey in (((4, 16, 56, 66), 90), ((7, 19, 53, 63), 120), ((23, 40, 37, 54), 200), ((27, 54, 33, 60), 40)):
        draw.ellipse(box, fill=grey)
    return np.asarray(picture)


def _find(network: LoadedNetwork, images, modality: str) -> list[str | None]:
    pixels = np.stack([np.ascontiguousarray(image) for image in images])
    features = network.examine(pixels, [modality] * len(pixels))[1]
    return [network.ood.find_fault(image, row, modality) for image, row in zip(pixels, features, strict=True)]


@pytest.mark.parametrize("modality", MODALITIES)
def test_images_of_new_patients_pass(network, modality) -> None:
    faults = _find(network, NEW[modality], modality)
    assert sum(fault is not None for fault in faults) <= 3, faults


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: _resize(np.rot90(image)), "orientation: it would fit turned by 270 degrees"),
        (lambda image: np.rot90(image, 2), "orientation: it would fit turned by 180 degrees"),
        (lambda image: _resize(np.rot90(image, 3)), "orientation: it would fit turned by 90 degrees"),
        (lambda image: image[:, ::-1], "orientation: it would fit mirrored"),
        (lambda image: image[::-1], "orientation: it would fit turned upside down"),
        (lambda image: 255 - image, "intensity"),
        (lambda image: np.full_like(image, 128), "intensity"),
        (lambda image: NOISE, "intensity"),
        (lambda image: _draw_axial(), ""),
        (lambda image: _resize(image[20:60, 15:45]), ""),
    ],
)
def test_each_fault_is_refused_with_its_reason(network, modality, change, reason) -> None:
    faults = _find(network, map(change, NEW[modality][:20]), modality)
    assert None not in faults
    assert sum(fault.startswith(reason) for fault in faults) >= 18, faults


@pytest.mark.parametrize(("modality", "other"), [("mri", "ct"), ("ct", "mri")])
def test_the_other_modality_is_recognised(network, modality, other) -> None:
    faults = _find(network, NEW[other], modality)
    assert faults.count(f"modality: it looks like {other}, not like {modality}") >= 58, faults
    assert None not in faults


@pytest.mark.parametrize("modality", MODALITIES)
def test_photographs_are_refused(network, modality) -> None:
    photographs = [Image.fromarray(load_sample_image(name)).convert("L") for name in ("china.jpg", "flower.jpg")]
    assert None not in _find(network, [_resize(np.asarray(one)) for one in photographs], modality)


@given(image=arrays(np.uint8, (80, 60), elements=st.integers(0, 255)))
@settings(max_examples=20, deadline=None)
def test_any_image_gets_an_answer(image) -> None:
    assert isinstance(fit_pixels_once().find_fault(image, np.zeros(0), "mri"), str)
    assert isinstance(fit_pixels_once().find_fault(image, np.zeros(0), None), str)


def test_the_features_alone_refuse_what_is_far(network) -> None:
    for modality, other in (("mri", "ct"), ("ct", "mri")):
        own = network.ood.references[modality]
        far = np.stack(
            [NOISE, _draw_axial(), _resize(np.rot90(NEW[modality][0])), 255 - NEW[modality][0], NEW[other][0]]
        )
        distances = own.features.distances(network.examine(far, [modality] * len(far))[1])
        assert (distances > own.feature_limit).all()
        fault = network.ood._check_features(network.examine(far[:1], [modality])[1][0], modality)
        assert fault.startswith("features: distance ") and "99% of the training images are within" in fault


def test_the_limits_come_from_patients_left_out() -> None:
    images, modalities, patients = draw_training()
    ood = fit_pixels_once()
    faults = [ood.find_fault(image, np.zeros(0), "mri") for image in images[:COUNT]]
    assert sum(fault is not None for fault in faults) <= 9  # of 300
    alone = fit_pixels(images[:COUNT], modalities[:COUNT], patients[:COUNT])
    assert alone.references["mri"].limits[2] == 0  # there is no other modality
    assert np.allclose(alone.references["mri"].limits[:2], ood.references["mri"].limits[:2])
    assert alone.find_fault(NEW["ct"][0], np.zeros(0), "mri") is not None


def test_a_turned_image_is_described_as_the_image_of_it_would_be() -> None:
    images = NEW["mri"]
    turned = describe_images(images)
    for name in ("turned by 180 degrees", "mirrored", "turned upside down"):
        assert np.allclose(turned[name], describe_structure(TURNS[name](images)), rtol=0, atol=1e-12)
    back = describe_structure(np.stack([np.asarray(Image.fromarray(np.rot90(one)).resize((60, 80))) for one in images]))
    assert np.abs(turned["turned by 90 degrees"] - back).mean() < 0.1  # by another resampling


def test_the_model_is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(1).normal(size=(200, 12)) * np.arange(1, 13)
    model, known = fit_ppca(rows, 5), PCA(5, svd_solver="full").fit(rows)
    constant = model.deviances(rows) + 2 * known.score_samples(rows)
    assert np.ptp(constant) < 1e-6 and np.ptp(model.deviances(rows)) > 1


def test_one_patient_is_no_reference_and_pairs_have_none(make_model) -> None:
    images, modalities, _ = draw_training()
    with pytest.raises(InputError, match="reference of mri: images of one patient; allowed: two patients or more"):
        fit_pixels(images[:5], modalities[:5], ["p"] * 5)
    pairs = read_network(make_model(architecture="multimodal", images="multimodal", spec={"fusion": "feature"}))
    assert add_features(fit_pixels_once(), pairs, *draw_training()) is fit_pixels_once()


def test_the_features_of_a_frozen_backbone_are_not_computed_again(make_model) -> None:
    """What is stored of the backbone is what comes into its head when an image is scored."""
    spec = {"backbone": "resnet10t", "weights": "random", "transfer": "frozen"}
    network = read_network(make_model(architecture="small", spec=spec))
    images, modalities, patients = (part[:40] for part in draw_training())
    own = network.examine(images, modalities)[1]
    made, stored = (
        add_features(fit_pixels_once(), network, given, modalities, patients).references["mri"]
        for given in (images, own.astype(np.float32))
    )
    assert own.shape == (40, 512) and stored.feature_limit == pytest.approx(made.feature_limit, rel=1e-3)


def test_a_table_names_the_row_and_told_to_score_it_gives_the_reason(network) -> None:
    images = [NEW["mri"][0], NEW["ct"][0], _draw_axial()]
    table = pd.DataFrame({"image": [encode_picture(image) for image in images], "modality": ["mri", "ct", "ct"]})
    with pytest.raises(InputError, match=r"^1 of 3 rows: row 2: out of distribution of the training images: "):
        score_table(network, table)
    scored = score_table(network, table, allow_ood=True)
    assert scored["ood"].isna().tolist() == [True, True, False]
    alone = score_images(network.network, images[0][None], modality="mri", precision="float32")
    assert scored["score"][0] == pytest.approx(alone[0], abs=1e-6)
    mixed = pd.DataFrame({"image": [table["image"][2], table["image"][1], "%"], "modality": "ct"})
    with pytest.raises(InputError, match=r"^2 of 3 rows: row 0: out of distribution .*; row 2: `image` is no base64"):
        score_table(network, mixed)


def test_mixed_modalities_keep_their_rows(network) -> None:
    pixels, modalities = np.stack([*NEW["mri"][:2], *NEW["ct"][:2]])[[2, 0, 3, 1]], ["ct", "mri", "ct", "mri"]
    scores, features = network.examine(pixels, modalities)
    for row, modality in enumerate(modalities):
        one, own = network.examine(pixels[row : row + 1], [modality])
        assert np.allclose(scores[:, row], one[:, 0], atol=1e-6) and np.allclose(features[row], own[0], atol=1e-4)


def test_a_network_without_known_features_is_an_error() -> None:
    expected = pytest.raises(WeightsError, match="Linear: 0 layers that take features; allowed: one")
    with expected, capture_features(nn.Linear(2, 1)):
        pass


def test_features_of_another_thread_are_not_captured() -> None:
    network, pixels = build("unimodal", seed=1).eval(), NEW["mri"][:2]
    with capture_features(network) as captured:
        other = threading.Thread(target=score_images, args=(network, pixels), kwargs={"precision": "float32"})
        other.start()
        other.join()
        assert captured == []
        score_images(network, pixels, precision="float32")
    score_images(network, pixels, precision="float32")
    assert [tuple(batch.shape) for batch in captured] == [(2, 128)]


def test_every_patient_is_chosen_before_any_twice() -> None:
    patients = np.array(["a"] * 5 + ["b"] * 2 + ["c"])
    assert choose_rows(patients, 3).tolist() == [0, 5, 7]
    assert choose_rows(patients, 5).tolist() == [0, 1, 5, 6, 7]
    assert choose_rows(patients, 50).tolist() == list(range(8))


def test_the_file_gives_the_same_answers(folder, tmp_path) -> None:
    network = read_network(folder)
    assert (folder / OOD).stat().st_size < 1_000_000
    save_ood(tmp_path / OOD, network.ood)
    assert (tmp_path / OOD).read_bytes() == (folder / OOD).read_bytes()
    images = [*NEW["mri"][:3], *(255 - NEW["ct"][:3])]
    fresh = add_features(fit_pixels_once(), network, *draw_training())
    for modality in MODALITIES:
        rows = network.examine(np.stack(images), [modality] * 6)[1]
        pairs = list(zip(images, rows, strict=True))
        found = [[ood.find_fault(*pair, modality) for pair in pairs] for ood in (network.ood, fresh)]
        assert found[0] == found[1] and any(found[0])


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("", lambda content: content[:-10], "no reference of training images"),
        ("", lambda content: b"\x80\x04N.", "no reference of training images"),
        ("", lambda content: bytes(24_000_001), "bytes; allowed: up to 24,000,000"),
        ("*", None, "no reference of training images; allowed: mri or ct"),
        (
            "ct.intensity.components",
            lambda value: np.ascontiguousarray(value.T),
            "`ct.intensity` has other shapes or values",
        ),
        ("mri.structure.mean", lambda value: value * np.nan, "`mri.structure` has other shapes or values"),
        ("ct.intensity.residual_variance", lambda value: value * np.nan, "`ct.intensity` has other shapes or values"),
        ("mri.structure.components", lambda value: value * np.inf, "`mri.structure` has other shapes or values"),
        ("mri.limits", lambda value: value[:2], "`mri.limits` has other shapes or values"),
        ("ct.limits", lambda value: value * np.inf, "`ct.limits` has other shapes or values"),
        ("mri.features.mean", None, "'mri.features.mean'"),
        ("mri.features.mean", lambda value: value[:-1], "`mri.features` has other shapes or values"),
        ("mri.features.variances", lambda value: -value, "`mri.features` has other shapes or values"),
        ("mri.features.variances", lambda value: value * np.inf, "`mri.features` has other shapes or values"),
        ("mri.features.limit", lambda value: value * np.inf, "`mri.features.limit` is no positive number"),
    ],
)
def test_a_broken_file_is_refused(folder, name, change, found) -> None:
    path = folder / OOD
    tensors = load_file(path)
    if not name:
        path.write_bytes(change(path.read_bytes()))
    else:
        if change:
            with np.errstate(invalid="ignore"):
                tensors[name] = np.asarray(change(tensors[name]), np.float32)
        save_file({key: value for key, value in tensors.items() if change or (name != "*" and name != key)}, path)
    with pytest.raises(WeightsError, match=found):
        read_network(folder)
