"""A whole gallery, of networks as they are built, on slices of the phantom."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from osteo_models.core.errors import ImageError, InputError, StaleDataError
from osteo_models.core.params import Prepare, Synthetic
from osteo_models.data.prepare import prepare_bytes
from osteo_models.explain.explained_cases import Case, Scene, Scenery, read_scenery
from osteo_models.explain.gallery import (
    COLUMNS,
    choose_effort,
    describe_gallery,
    draw_fresh,
    make_gallery,
    write_tables,
)
from osteo_models.models import build
from osteo_models.phantom import synthesize_cohort
from tests.conftest import INTENSITY

PREPARE = Prepare(crop_mm=(200, 150), intensity=INTENSITY)
SYNTHETIC = Synthetic(seed=5, scale="small")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The prepared cohort of two slices of the phantom, an MRI and a CT, beside the phantom's files."""
    root = tmp_path_factory.mktemp("gallery")
    synthesize_cohort(root / "data", seed=SYNTHETIC.seed, scale=SYNTHETIC.scale, workers=1)
    paths = [sorted((root / "data/dicom").glob(f"*/{modality}-004.dcm"))[0] for modality in ("mri", "ct")]
    rows = [
        {"image_id": f"{path.parent.name}-{path.stem}", "path": f"{path.parent.name}/{path.name}"} for path in paths
    ]
    pixels = [prepare_bytes(path.read_bytes(), prepare=PREPARE).pixels for path in paths]
    (root / "artifacts/cohort").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(root / "artifacts/cohort/images.csv", index=False)
    np.save(root / "artifacts/cohort/images.npy", np.stack(pixels))
    return root / "artifacts"


@pytest.fixture(scope="module")
def scenery(artifacts) -> Scenery:
    return read_scenery(artifacts, artifacts.parent / "data")


def case(scenery: Scenery, row: int, **changes) -> Case:
    image_id = scenery.images["image_id"][row]
    given = {"image_id": image_id, "patient_id": image_id[:8], "modality": ("mri", "ct")[row], "target": 0}
    return Case(**given | {"score": 0.9, "decision": 1, "kind": "worst_error"} | changes)


@pytest.fixture(scope="module")
def gallery(scenery, artifacts):
    scenes = [scenery.find(case(scenery, row), PREPARE) for row in (0, 1)]
    network, fresh = build("multimodal", seed=1), draw_fresh("multimodal", {"fusion": "loss"}, 2)
    out = artifacts / "explain"
    return make_gallery("osteo-multimodal", scenes, network, fresh, out=out, seed=3, samples=4, synthetic=True)


def test_a_scene_has_the_vertebrae_where_the_image_has_them(scenery):
    for row in (0, 1):
        scene = scenery.find(case(scenery, row), PREPARE)
        path = scenery.data / "vertebrae" / scenery.images["path"][row].replace(".dcm", ".png")
        inside = np.asarray(Image.open(path)) > 0
        assert 0.05 < (scene.mask / 255).mean() < 0.3
        assert 0.5 < (scene.mask / 255).sum() / (inside.sum() * 80 * 60 / (320 * 256)) < 3
    bone, rest = (scene.pixels[chosen].mean() for chosen in (scene.mask == 255, scene.mask == 0))
    assert bone > rest + 30  # in CT
    with pytest.raises(StaleDataError, match="images.csv: no image gone; the predictions are of other images"):
        scenery.find(case(scenery, 0, image_id="gone"), PREPARE)


def test_vertebrae_are_unknown_without_a_label_map_and_a_wrong_one_is_refused(scenery, tmp_path):
    path = scenery.images["path"][0]
    label_map = tmp_path / "vertebrae" / path.replace(".dcm", ".png")
    for name in ("dicom", "vertebrae"):
        (tmp_path / name / path).parent.mkdir(parents=True)
    shutil.copy(scenery.data / "dicom" / path, tmp_path / "dicom" / path)
    unlabelled = Scenery(scenery.images, scenery.pixels, tmp_path)
    assert unlabelled.find(case(scenery, 0), PREPARE).mask is None
    for wrong, message in (
        (Image.new("L", (320, 256), 1), r"mri-004\.dcm: pixels \(320, 256\); allowed: those of the mask"),
        (Image.new("L", (256, 320), 6), r"mri-004\.png: label 6; allowed: 8-bit grey PNG with values 0 to 5"),
        (Image.new("RGB", (256, 320)), r"mri-004\.png: pixels of mode RGB"),
    ):
        wrong.save(label_map)
        with pytest.raises(ImageError, match=message):
            unlabelled.find(case(scenery, 0), PREPARE)
    label_map.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"mri-004\.png: damaged label map"):
        unlabelled.find(case(scenery, 0), PREPARE)


def test_each_modality_is_explained_by_its_own_tower(scenery, artifacts, gallery):
    """The tower of the other modality can be anything: the pictures and shares stay as they are."""
    network = build("multimodal", seed=1)
    network.ct = build("unimodal", seed=9)
    scenes = [scenery.find(case(scenery, row), PREPARE) for row in (0, 1)]
    changed = make_gallery(
        "changed", scenes, network, [network], out=artifacts / "explain", seed=3, samples=4, synthetic=True
    )
    shares = [[row["vertebrae_share"] for row in each.rows] for each in (gallery, changed)]
    assert shares[0][:2] == shares[1][:2] and shares[0][2] != shares[1][2]
    for row in gallery.rows[:2]:
        name = row["file"].partition("/")[2]
        folder = artifacts / "explain"
        assert (folder / "changed" / name).read_bytes() == (folder / "osteo-multimodal" / name).read_bytes()


def test_rows_pictures_and_similarity(artifacts, gallery):
    assert [(row["modality"], row["method"]) for row in gallery.rows] == [
        ("mri", "gradcampp"),
        ("mri", "smoothgrad"),
        ("ct", "gradcampp"),
        ("ct", "smoothgrad"),
    ]
    for row in gallery.rows:
        with Image.open(artifacts / "explain" / row["file"]) as picture:
            assert picture.format == "PNG" and min(picture.size) > 250
        assert 0 < row["vertebrae_share"] < 1 and 0.05 < row["area_share"] < 0.3
        assert (row["model"], row["target"], row["score"], row["kind"]) == ("osteo-multimodal", 0, 0.9, "worst_error")
    assert set(gallery.similarity) == {"gradcampp", "smoothgrad"}
    assert abs(gallery.similarity["smoothgrad"]) < 0.5  # towers that learnt nothing of each other


def test_the_same_weights_are_alike(scenery, artifacts):
    network, scene = build("unimodal", seed=4), scenery.find(case(scenery, 0), PREPARE)
    made = make_gallery("same", [scene], network, [network], out=artifacts, seed=0, samples=1, synthetic=False)
    assert made.similarity == pytest.approx({"gradcampp": 1, "smoothgrad": 1})


def test_a_network_of_pairs_cannot_be_explained_by_one_image(scenery, artifacts):
    network, scene = build("multimodal", fusion="feature"), scenery.find(case(scenery, 0), PREPARE)
    with pytest.raises(InputError, match="`mri` images cannot be scored by themselves"):
        make_gallery("pairs", [scene], network, [], out=artifacts, seed=0, samples=1, synthetic=False)


def test_fresh_networks_differ_and_have_the_spec():
    first, second = draw_fresh("traditional_cnn", {"filters": [4], "dense": [3]}, 2)
    weights = [network.features.conv1.weight for network in (first, second)]
    assert weights[0].shape == (4, 3, 3, 3) and not (weights[0] == weights[1]).all()
    assert not first.training


def test_a_backbone_is_given_less():
    own, large = choose_effort("unimodal", {}), choose_effort("anything", {"backbone": "resnet18"})
    assert own.samples > large.samples and own.draws > large.draws


def test_tables_hold_what_the_gallery_found(tmp_path, gallery):
    gallery = type(gallery)(gallery.rows, {"gradcampp": 0.8, "smoothgrad": None})
    write_tables({"osteo-multimodal": gallery}, tmp_path)
    table = pd.read_csv(tmp_path / "cases.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["flagged"].tolist() == [1, 0, 1, 0]
    assert table["vertebrae_share"].tolist() == pytest.approx([row["vertebrae_share"] for row in gallery.rows])
    sanity = json.loads((tmp_path / "sanity.json").read_text())
    methods = {"gradcampp": {"similarity": 0.8, "flagged": 1}, "smoothgrad": {"similarity": None, "flagged": 0}}
    assert sanity == {"osteo-multimodal": methods}
    line = describe_gallery(gallery)
    assert line.startswith("2 cases; Grad-CAM++ ") and "of the area), similarity to untrained 0.80: HARDLY" in line
    assert line.endswith("similarity to untrained undefined")
    write_tables({}, tmp_path / "none")
    assert (tmp_path / "none" / "cases.csv").read_text().strip() == ",".join(COLUMNS)


def test_real_data_has_no_shares(scenery, artifacts, tmp_path):
    known = scenery.find(case(scenery, 0), PREPARE)
    scene, network = Scene(known.case, known.pixels, None), build("traditional_cnn", seed=0)
    made = make_gallery("real", [scene], network, [network], out=artifacts, seed=0, samples=1, synthetic=False)
    write_tables({"real": made}, tmp_path)
    assert pd.read_csv(tmp_path / "cases.csv")[["vertebrae_share", "area_share"]].isna().all(axis=None)
    assert "vertebrae" not in describe_gallery(made)
