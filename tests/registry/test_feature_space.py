"""Images far from the training images in a network's own features are refused, with singles and ensembles alike."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file
from torch import nn

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.models import build
from osteo_models.serving.ensemble import write_ensemble
from osteo_models.serving.feature_fit import choose_rows, deal_patients, fit_features, write_features
from osteo_models.serving.feature_space import FeatureSpace, load_features, save_features, watch_features
from osteo_models.serving.network import LoadedNetwork, read_network
from osteo_models.serving.score_rows import encode_picture, score_table
from osteo_models.training.checkpoint import save_weights
from osteo_models.training.inference import score_images
from osteo_models.training.job_data import Tables
from tests.data.bodies import draw_bodies
from tests.registry.conftest import PREPARE

pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = {name: draw_bodies(name, patients=40, each=3, seed=1) for name in ("mri", "ct")}
NEW = {name: draw_bodies(name, patients=30, each=1, seed=2)[0] for name in ("mri", "ct")}


def make_tables() -> Tables:
    """120 MRI and 120 CT images of 80 people; the last person of each modality is held out."""
    modalities, owners = ["mri"] * 120 + ["ct"] * 120, [name for _, names in PARTS.values() for name in names]
    splits = pd.DataFrame({"modality": modalities, "patient_id": owners})
    splits = splits.assign(holdout=(splits.index % 120 >= 117).astype(int))
    splits["fold_patient"] = (splits.index // 3 % 3).where(splits["holdout"] == 0, pd.NA).astype("Int64")
    return Tables(splits, splits.iloc[:0], np.concatenate([images for images, _ in PARTS.values()]))


@pytest.fixture(scope="module", params=["alone", "ensemble"])
def loaded(request, tmp_path_factory: pytest.TempPathFactory) -> LoadedNetwork:
    """A multimodal network, or three of them, with the reference of its training images."""
    place = tmp_path_factory.mktemp("models")
    weights = [place / str(seed) / "model.safetensors" for seed in (1, 2, 3)]
    for seed, path in enumerate(weights, start=1):
        save_weights(path, build("multimodal", seed=seed), {})
    record = {"architecture": "multimodal", "spec": {}, "images": "multimodal", "key": "0" * 16, "threshold": 0.5}
    record |= {"recipe": {"precision": "float32"}, "prepare": PREPARE}
    folder = weights[0].parent
    (folder / "model.json").write_text(json.dumps(record), encoding="utf-8")
    if request.param == "ensemble":
        folder = place / "ensemble"
        write_ensemble(folder, record, weights, key="k")
    write_features(folder, make_tables(), place)
    assert (folder / "features.safetensors").stat().st_size < 500_000
    return _load(folder)


def _load(folder: Path) -> LoadedNetwork:
    names = ("model.safetensors", "model.json", "features.safetensors")
    weights, record, features = (folder / name for name in names)
    return read_network(weights, record, features=features)


def _axial() -> np.ndarray:
    """A round body with a vertebra in it, as an axial slice shows it."""
    picture = Image.new("L", (60, 80), 10)
    draw = ImageDraw.Draw(picture)
    for box, grey in (((4, 16, 56, 66), 90), ((7, 19, 53, 63), 120), ((23, 40, 37, 54), 200), ((27, 54, 33, 60), 40)):
        draw.ellipse(box, fill=grey)
    return np.asarray(picture)


def _turned(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(np.rot90(image))).resize((60, 80)))


def _find(loaded: LoadedNetwork, image: np.ndarray, modality: str) -> str | None:
    _, features = loaded.examine(image[None], [modality])
    return loaded.features.find_fault([rows[0] for rows in features], modality)


def test_new_patients_pass_and_what_is_unlike_does_not(loaded: LoadedNetwork) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 60)).astype(np.uint8)
    for modality, other in (("mri", "ct"), ("ct", "mri")):
        faults = [_find(loaded, image, modality) for image in NEW[modality]]
        assert sum(fault is not None for fault in faults) <= 3, faults
        own = NEW[modality][0]
        unlike = [noise, _axial(), _turned(own), 255 - own, np.full_like(own, 128), NEW[other][0]]
        found = [_find(loaded, image, modality) for image in unlike]
        assert all(
            fault and fault.startswith("feature space: distance ") and "99% of the training images are within" in fault
            for fault in found
        ), found


def test_a_table_is_refused_with_the_row_and_told_to_accept_it_says_why(loaded: LoadedNetwork) -> None:
    images = [NEW["mri"][0], NEW["ct"][0], _axial()]
    table = pd.DataFrame({"image": [encode_picture(image) for image in images], "modality": ["mri", "ct", "ct"]})
    with pytest.raises(InputError) as caught:
        score_table(loaded, table)
    assert str(caught.value).startswith(
        "1 of 3 rows: row 2: it does not look like the training images: feature space: distance "
    )
    said = score_table(loaded, table, accept_unlike=True)
    assert said["unlike"].isna().tolist() == [True, True, False]
    alone = score_images(loaded.network, images[0][None], modality="mri", precision="float32")
    assert said["score"][0] == pytest.approx(alone[0], abs=1e-6)


def test_faults_of_all_kinds_are_told_in_the_order_of_rows(loaded: LoadedNetwork) -> None:
    good, unlike = encode_picture(NEW["ct"][0]), encode_picture(_axial())
    with pytest.raises(InputError, match=r"^2 of 3 rows: row 0: it does not look .*; row 2: `image` is no base64"):
        score_table(loaded, pd.DataFrame({"image": [unlike, good, "%"], "modality": "ct"}))


def test_mixed_modalities_keep_their_rows(loaded: LoadedNetwork) -> None:
    pixels, modalities = np.stack([*NEW["mri"][:2], *NEW["ct"][:2]])[[2, 0, 3, 1]], ["ct", "mri", "ct", "mri"]
    scores, features = loaded.examine(pixels, modalities)
    for row, modality in enumerate(modalities):
        one, own = loaded.examine(pixels[row : row + 1], [modality])
        assert np.allclose(scores[:, row], one[:, 0], atol=1e-6)
        assert all(np.allclose(all_of[row], of[0], atol=1e-4) for all_of, of in zip(features, own, strict=True))


def test_the_reference_is_of_development_images_alone(make_model, tmp_path: Path) -> None:
    folder, tables = make_model(), make_tables()
    write_features(folder, tables, tmp_path)
    before = (folder / "features.safetensors").read_bytes()
    tables.images[117:120] = 255  # the one who is held out
    write_features(folder, tables, tmp_path)
    assert (folder / "features.safetensors").read_bytes() == before
    tables.images[:3] = 255
    write_features(folder, tables, tmp_path)
    assert (folder / "features.safetensors").read_bytes() != before


def test_the_features_of_a_frozen_backbone_are_not_made_again(make_model, tmp_path: Path) -> None:
    """What is stored of the backbone is what comes into its head when an image is scored."""
    folder = make_model(architecture="small", spec={"backbone": "resnet10t", "weights": "random", "transfer": "frozen"})
    network = read_network(folder / "model.safetensors", folder / "model.json")
    images = np.concatenate([images[:20] for images, _ in PARTS.values()])
    own = network.examine(images, ["mri"] * 40)[1][0]
    known, kinds = np.arange(40), np.array(["mri"] * 40)
    patients = np.array([str(row // 2) for row in range(40)])
    made = fit_features(network, images, known, kinds, patients)
    stored = fit_features(network, own.astype(np.float32), known, kinds, patients)
    assert made and stored and own.shape == (40, 512)
    assert stored.limits["mri"] == pytest.approx(made.limits["mri"], rel=1e-3)


def test_a_network_that_scores_pairs_has_none_and_one_patient_is_too_few(make_model, tmp_path: Path) -> None:
    folder = make_model(architecture="multimodal", images="multimodal", spec={"fusion": "feature"})
    write_features(folder, make_tables(), tmp_path)
    assert not (folder / "features.safetensors").exists()
    tables = make_tables()
    tables.splits["patient_id"] = "p"
    with pytest.raises(InputError, match="features of mri: images of one patient; allowed: two patients or more"):
        write_features(make_model(), tables, tmp_path)


def test_a_network_without_known_features_is_told(make_model) -> None:
    with (
        pytest.raises(WeightsError, match="Linear: 0 layers that take features; allowed: one"),
        watch_features(nn.Linear(2, 1)),
    ):
        pass


def test_threads_do_not_hear_each_other() -> None:
    network = build("unimodal", seed=1).eval()
    pixels = NEW["mri"][:2]
    with watch_features(network) as seen:
        other = threading.Thread(target=score_images, args=(network, pixels), kwargs={"precision": "float32"})
        other.start()
        other.join()
        assert seen == []
        score_images(network, pixels, precision="float32")
    score_images(network, pixels, precision="float32")
    assert [tuple(batch.shape) for batch in seen] == [(2, 128)]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("missing", "No such file"),
        ("truncated", "no reference of training features"),
        ("pickle", "no reference of training features"),
        ("member", "no reference of training features \\('mri.0.mean'\\)"),
        ("width", "`mri.0` has other shapes or values"),
        ("nan", "`mri.0` has other shapes or values"),
        ("negative", "`mri.0` has other shapes or values"),
        ("limit", "a limit is no positive number"),
        ("large", "bytes; allowed: up to 20,000,000"),
    ],
)
def test_a_broken_file_is_refused(make_model, tmp_path: Path, fault: str, found: str) -> None:
    folder = make_model()
    write_features(folder, make_tables(), tmp_path)
    path = folder / "features.safetensors"
    tensors = load_file(path)
    if fault == "missing":
        path.unlink()
    elif fault in ("truncated", "pickle"):
        path.write_bytes(path.read_bytes()[:-10] if fault == "truncated" else b"\x80\x04N.")
    elif fault == "large":
        path.write_bytes(bytes(20_000_001))
    else:
        if fault == "member":
            del tensors["mri.0.mean"]
        elif fault == "width":
            tensors["mri.0.mean"] = tensors["mri.0.mean"][:-1]
        elif fault == "limit":
            tensors["mri.limit"] = np.array(np.inf, np.float32)
        else:
            tensors["mri.0.variances"][0] = np.nan if fault == "nan" else -1
        save_file(tensors, path)
    with pytest.raises(WeightsError, match=found):
        _load(folder)


def test_the_file_gives_the_same_distances(loaded: LoadedNetwork, tmp_path: Path) -> None:
    images, path = np.concatenate([images[:20] for images, _ in PARTS.values()]), tmp_path / "again.safetensors"
    kinds, patients = np.array(["mri"] * 20 + ["ct"] * 20), np.array([str(row // 2) for row in range(40)])
    folds = np.arange(40) // 2 % loaded.record.members if loaded.record.members > 1 else None
    space = fit_features(loaded, images, np.arange(40), kinds, patients, folds)
    assert isinstance(space, FeatureSpace)
    save_features(path, space)
    again = load_features(path, {name: [len(each.mean) for each in members] for name, members in space.members.items()})
    assert again.limits == pytest.approx(space.limits, rel=1e-6)
    for modality in ("mri", "ct"):
        _, features = loaded.examine(NEW[modality], [modality] * len(NEW[modality]))
        distances = space.measure(features, modality)
        assert np.ptp(distances) > 1
        np.testing.assert_allclose(again.measure(features, modality), distances, rtol=1e-3)


def test_every_patient_is_seen_before_anyone_twice() -> None:
    patients = np.array(["a"] * 5 + ["b"] * 2 + ["c"])
    assert choose_rows(patients, 3).tolist() == [0, 5, 7]
    assert choose_rows(patients, 5).tolist() == [0, 1, 5, 6, 7]
    assert choose_rows(patients, 50).tolist() == list(range(8))
    folds = deal_patients(patients)
    assert [len(set(folds[patients == name].tolist())) for name in "abc"] == [1, 1, 1] and len(set(folds)) == 3
