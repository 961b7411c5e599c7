"""A fold ensemble is a model like any other, and its members' disagreement is its uncertainty."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.core.params import Evaluate, GateRule
from osteo_models.registry.gate import promote
from osteo_models.registry.journal import open_journal
from osteo_models.registry.journal_events import Author
from osteo_models.registry.package import load_network
from osteo_models.serving.ensemble import find_folds, measure_holdout, score_holdout, write_ensemble
from osteo_models.serving.network import Ensemble, LoadedNetwork, read_network
from osteo_models.serving.score_table import encode_picture, score_table
from osteo_models.training.inference import score_images
from osteo_models.training.job_data import Tables

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 80, 60), dtype=np.uint8)


@pytest.fixture
def make_ensemble(make_model, tmp_path: Path):
    """The folder of an ensemble of three networks, and the folders of its members."""

    def make(architecture: str = "unimodal", images: str = "mri", key: str = "c" * 16) -> tuple[Path, list[Path]]:
        members = [make_model(architecture=architecture, images=images, seed=seed) for seed in (1, 2, 3)]
        record = json.loads((members[0] / "model.json").read_text(encoding="utf-8"))
        target = tmp_path / f"{architecture}-{key}"
        write_ensemble(target, record, [folder / "model.safetensors" for folder in members], key=key)
        return target, members

    return make


def _load(folder: Path) -> LoadedNetwork:
    return read_network(folder)


@pytest.mark.parametrize(("architecture", "images"), [("unimodal", "mri"), ("multimodal", "multimodal")])
def test_the_score_is_the_mean_of_the_members(make_ensemble, architecture: str, images: str) -> None:
    folder, members = make_ensemble(architecture, images)
    ensemble = _load(folder)
    modalities = ["mri", "ct"] * 3 if images == "multimodal" else ["mri"] * 6
    each = np.stack([_load(member).score(PIXELS, modalities) for member in members])
    assert np.array_equal(ensemble.examine(PIXELS, modalities)[0], each)
    assert np.allclose(ensemble.score(PIXELS, modalities), each.mean(axis=0), atol=1e-12)
    assert np.ptp(each, axis=0).min() > 1e-4
    table = pd.DataFrame({"image": [encode_picture(image) for image in PIXELS], "modality": modalities})
    said = score_table(ensemble, table)
    assert np.allclose(said["uncertainty"].astype(float), each.std(axis=0, ddof=1))
    decided = each.mean(axis=0) >= 0.5
    assert np.allclose(said["agreement"].astype(float), ((each >= 0.5) == decided).mean(axis=0))
    assert np.allclose(np.array(said["members"].tolist()).T, each)


def test_as_a_network_it_gives_the_logit_of_the_mean(make_ensemble) -> None:
    folder, _ = make_ensemble()
    ensemble = _load(folder)
    assert len(ensemble.members) == 3 and not hasattr(ensemble.network, "tower")
    whole = score_images(ensemble.network, PIXELS, precision="float32")
    assert np.allclose(whole, ensemble.score(PIXELS, ["mri"] * 6), atol=1e-6)
    both = _load(make_ensemble("multimodal", "multimodal", "d" * 16)[0])
    tower = score_images(both.network, PIXELS, modality="ct", precision="float32")
    assert np.allclose(tower, both.score(PIXELS, ["ct"] * 6), atol=1e-6)
    inputs = torch.rand(2, 3, 80, 60)
    with torch.inference_mode():
        logits = both.network(inputs, inputs)
    assert isinstance(both.network, Ensemble) and [tuple(each.shape) for each in logits] == [(2,), (2,)]


def test_a_network_alone_has_no_uncertainty(make_model) -> None:
    said = score_table(_load(make_model()), pd.DataFrame({"image": [encode_picture(PIXELS[0])]}))
    assert said["uncertainty"].tolist() == said["agreement"].tolist() == [None]
    assert said["members"].tolist() == [[said["score"][0]]]


def test_members_that_are_missing_or_of_another_network(make_model, tmp_path: Path) -> None:
    one, other = make_model(seed=1), make_model(architecture="traditional_cnn", seed=1)
    record = json.loads((one / "model.json").read_text(encoding="utf-8"))
    weights = [one / "model.safetensors", tmp_path / "fold-1" / "model.safetensors"]
    with pytest.raises(StaleDataError, match=r"fold-1.*: 1 of 2 fold networks are missing; train the folds again"):
        write_ensemble(tmp_path / "e", record, weights, key="k")
    with pytest.raises(WeightsError, match="tensors do not fit"):
        write_ensemble(tmp_path / "e", record, [weights[0], other / "model.safetensors"], key="k")
    assert not (tmp_path / "e").exists()


def test_it_is_registered_promoted_and_loaded_like_any_model(
    tracking, register, make_job, make_ensemble, stage
) -> None:
    job = make_job(stage="stage-1")
    folder, _ = make_ensemble(key=job.key)
    version = register({**stage(1), **stage(5)}, folder=folder, job=job)
    assert version.name == "osteo-unimodal-mri-ensemble" and version.job == job.key
    rules = [GateRule(rule="minimum", stages=("stage-1", "stage-5"), metric="balanced_accuracy", value=0.7)]
    keeper = {"journal": open_journal(tracking.uri), "author": Author("A. Keeper", "c" * 40)}
    assert promote(tracking, version.name, None, rules, **keeper).changed
    loaded = load_network(tracking, f"{version.name}@champion")
    assert loaded.record.members == 3 and loaded.record.name == version.name
    assert tracking.client.get_run(version.run_id).data.params["members"] == "3"
    card = tracking.client.get_model_version(version.name, str(version.version)).description
    assert "the mean of 3 networks, each trained without one fold of the patients" in card


def test_the_folds_are_those_with_patients_apart(params, tmp_path: Path) -> None:
    jobs = [
        {"key": str(number), "stage": stage, "architecture": "unimodal", "images": "mri", "protocol": protocol}
        for number, (stage, protocol) in enumerate(
            [("stage-1", "image"), ("stage-5", "patient"), ("stage-1", "patient")]
        )
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    found = find_folds(tmp_path, params, "unimodal", "mri")
    assert found is not None and found["key"] == "2"
    assert find_folds(tmp_path, params, "unimodal", "ct") is None


def test_the_hold_out_is_scored_by_the_ensemble_itself(make_ensemble) -> None:
    loaded = _load(make_ensemble()[0])
    splits = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(6)],
            "patient_id": ["a", "a", "b", "c", "d", "d"],
            "modality": ["mri", "mri", "mri", "ct", "mri", "mri"],
            "target": [0, 0, 1, 1, 1, 1],
            "holdout": [1, 1, 1, 1, 0, 1],
        }
    )
    table = score_holdout(loaded, Tables(splits, splits.iloc[:0], PIXELS), "stage-5")
    assert table.columns.tolist() == [
        *("stage", "architecture", "images", "protocol", "fold", "image_id", "patient_id", "modality", "target"),
        "score",
    ]
    assert table["image_id"].tolist() == ["i0", "i1", "i2", "i5"]
    assert set(table["stage"]) == {"stage-5"} and set(table["protocol"]) == {"patient"}
    assert np.allclose(table["score"], loaded.score(PIXELS[[0, 1, 2, 5]], ["mri"] * 4))
    metrics = measure_holdout(table, Evaluate(threshold=0.5, seed=1))
    assert metrics["stage_5.patient.n"] == 4 and metrics["stage_5.patient.n_patients"] == 3
    right = ((table["score"] >= 0.5) == table["target"]).groupby(table["target"]).mean()
    assert metrics["stage_5.patient.balanced_accuracy"] == pytest.approx(right.mean())
