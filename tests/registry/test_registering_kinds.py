"""A version of each kind of network is registered with its references of the training images, and scores an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from osteo_models.core.terms import MODALITIES
from osteo_models.registry.package import load_network
from osteo_models.registry.registration import register_version
from osteo_models.serving.ensemble import write_ensemble
from osteo_models.serving.model_record import WEIGHTS
from osteo_models.serving.network import OOD, read_network
from osteo_models.serving.ood_fit import add_features, fit_pixels
from osteo_models.serving.out_of_distribution import save_ood
from osteo_models.serving.score_table import encode_picture, score_table
from osteo_models.training.frozen_features import join_chunks, read_features, split_rows, write_chunk
from osteo_models.training.job_data import Tables
from tests.data.bodies import draw_bodies
from tests.registry.conftest import TAGS, stage_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
MEMBERS = 5
NETWORKS = {
    "unimodal": ("unimodal", "mri", 1),
    "combined": ("unimodal", "combined", 1),
    "multimodal": ("multimodal", "multimodal", 1),
    "traditional": ("traditional_cnn", "combined", 1),
    "lite0": ("efficientnet_lite0", "combined", 1),
    "unimodal-ensemble": ("unimodal", "mri", MEMBERS),
    "multimodal-ensemble": ("multimodal", "multimodal", MEMBERS),
}


@pytest.fixture(scope="module")
def tables() -> Tables:
    """As many images as the platform looks at, and more: 400 of each modality, of 100 people."""
    parts = {name: draw_bodies(name, patients=100, each=4, seed=1) for name in ("mri", "ct")}
    modalities = [name for name, (images, _) in parts.items() for _ in images]
    splits = pd.DataFrame({"modality": modalities, "patient_id": [one for _, names in parts.values() for one in names]})
    splits = splits.assign(holdout=0, fold_patient=(splits.index // 4 % MEMBERS).astype("int64"))
    return Tables(splits, splits.iloc[:0], np.concatenate([images for images, _ in parts.values()]))


@pytest.fixture(scope="module")
def stored(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a frozen backbone made of the images, as training leaves it."""
    folder, chunks = tmp_path_factory.mktemp("features"), split_rows(len(tables.images))
    made = np.random.default_rng(1).normal(size=(len(tables.images), 1280)).astype(np.float32)
    for first, end in chunks:
        write_chunk(folder, "lite0", (first, end), made[first:end], 1.0)
    join_chunks(folder, "lite0", chunks)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_version_is_registered_and_scores_an_image(
    name: str, tables: Tables, stored: Path, tracking, make_job, make_model, tmp_path: Path
) -> None:
    architecture, images, members = NETWORKS[name]
    known, job = tables.splits, make_job()
    start = {"features": "lite0"} if name == "lite0" else {}
    folder = make_model(job.key, architecture=architecture, images=images, job={"pretrained": start})
    if members > 1:
        model = json.loads((folder / "model.json").read_text())
        seeds = range(members)
        weights = [make_model(architecture=architecture, images=images, seed=seed) / WEIGHTS for seed in seeds]
        folder = tmp_path / "ensemble"
        write_ensemble(folder, model, weights, key=job.key)
    ood = fit_pixels(tables.images, known["modality"].tolist(), known["patient_id"].tolist())
    network = read_network(folder)
    if network.record.stored_features:
        given = read_features(stored, network.record.stored_features).values
    else:
        given = tables.images
    save_ood(folder / OOD, add_features(ood, network, given, known["modality"], known["patient_id"]))
    run_id = tracking.begin_job(job)
    version = register_version(tracking, model_folder=folder, metrics=stage_metrics(), tags=TAGS, run_id=run_id)

    loaded = load_network(tracking, version)
    expected = set(MODALITIES if images != "mri" else ("mri",))
    assert {name for name, reference in loaded.ood.references.items() if reference.features} == expected
    assert loaded.record.members == members
    table = pd.DataFrame({"image": [encode_picture(tables.images[0])], "modality": ["mri"]})
    scored = score_table(loaded, table, allow_ood=True)
    assert scored["score"][0] == pytest.approx(read_network(folder).score(tables.images[:1], ["mri"])[0])
