"""The champion beside a version: the same images, from saved predictions or scored again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osteo_models.core.params import GateRule
from osteo_models.core.settings import Settings, load_settings
from osteo_models.registry.champion_comparison import compare_with_champion
from osteo_models.registry.gate_evidence import complete_evidence, read_stored_evidence
from osteo_models.registry.package import load_network
from osteo_models.registry.rules import Evidence, judge
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import VersionInfo
from tests.registry.gate_cases import Case, files_of, make_case, make_splits, register_case

OTHER = "e" * 32 + ".dir"


@pytest.fixture
def settings(tmp_path: Path, fresh_store: Path) -> Settings:
    """A project whose data set is the one of the cases, as pictures."""
    (tmp_path / ".osteo").mkdir()
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {OTHER}\n  path: data\n")
    rng = np.random.default_rng(7)
    listed = ["image_id,path"]
    held = make_splits().query("holdout == 1")
    (tmp_path / "data" / "dicom").mkdir(parents=True)
    for name in held["image_id"]:
        Image.fromarray(rng.integers(0, 256, (80, 60), dtype=np.uint8)).save(
            tmp_path / "data" / "dicom" / f"{name}.png"
        )
        listed.append(f"{name},{name}.png")
    (tmp_path / "artifacts" / "cohort").mkdir(parents=True)
    (tmp_path / "artifacts" / "cohort" / "images.csv").write_text("\n".join(listed) + "\n")
    return load_settings(tmp_path)


@pytest.fixture
def tracking(settings: Settings) -> Tracking:
    return open_tracking(settings.tracking_uri, settings.state / "mlartifacts")


@pytest.fixture
def register(tracking: Tracking, tmp_path: Path, make_job, make_model):
    """Register a case; returns the version and what it keeps."""

    def make(name: str, case: Case, data: str | None = None) -> tuple[VersionInfo, Evidence]:
        if data:
            case.tags["dvc.data"] = data
        version = register_case(tracking, case, tmp_path / name, make_job, make_model)
        return version, read_stored_evidence(tracking, version)

    return make


def test_saved_predictions_are_matched_by_image(tracking, register) -> None:
    mine, theirs = make_case(seed=1), make_case(seed=2)
    theirs.predictions["stage-1"] = theirs.predictions["stage-1"].iloc[::-1].iloc[:100].reset_index(drop=True)
    found = compare_with_champion(tracking, register("a", mine)[1], *register("b", theirs))
    assert (found.version, found.rescored, found.missing_evidence) == (2, False, "")
    assert found.images == {"stage-1": 160, "stage-5": 24}
    merged = mine.predictions["stage-1"].merge(theirs.predictions["stage-1"], on="image_id").sort_values("image_id")
    scores = found.scores["stage-1"]
    assert scores.first.tolist() == merged["score_x"].tolist()
    assert scores.second.tolist() == merged["score_y"].tolist()
    assert scores.patient_id.tolist() == merged["patient_id_x"].tolist()


def test_an_image_of_another_class_is_told(tracking, register) -> None:
    other = make_case()
    first = other.predictions["stage-1"]["patient_id"] == "p000"
    other.predictions["stage-1"].loc[first, "target"] ^= 1
    found = compare_with_champion(tracking, register("a", make_case())[1], *register("b", other))
    assert found.missing_evidence == "its predictions of stage-1 give images another class or patient"


def test_a_champion_of_other_data_is_scored_again(tracking, register, settings: Settings) -> None:
    older = make_splits()
    older.loc[older["patient_id"] == "p085", ["holdout", "fold_image", "fold_patient"]] = [0, 1, 1]
    _, kept = register("a", make_case(), OTHER)
    champion, champion_kept = register("b", make_case(older))
    found = compare_with_champion(tracking, kept, champion, champion_kept, settings=settings)
    assert (found.rescored, found.images) == (True, {"stage-5": 24})
    scores = found.scores["stage-5"]
    tested = kept.predictions["stage-5", "patient"]
    known = tested.patient_id != "p085"  # whom the champion was trained on
    assert known.sum() == 22 and scores.first.tolist() == tested.score[known].tolist()
    folder = settings.root / "data" / "dicom"
    pixels = np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in tested.image_id[known]])
    expected = load_network(tracking, champion).score(pixels, ["mri"] * 22)
    np.testing.assert_allclose(scores.second, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda root: (root / "data.dvc").unlink(), "the images of this version are not here to score"),
        (lambda root: shutil.rmtree(root / "data"), "it could not be scored again"),
        (
            lambda root: (root / "artifacts/cohort/images.csv").write_text("image_id,path\n"),
            "could not be scored again",
        ),
    ],
)
def test_without_the_images_it_is_not_known(tracking, register, settings: Settings, change, missing: str) -> None:
    change(settings.root)
    found = compare_with_champion(
        tracking, register("a", make_case(), OTHER)[1], *register("b", make_case()), settings=settings
    )
    assert missing in found.missing_evidence and not found.scores


def test_a_hold_out_that_the_champion_was_trained_on_says_nothing(tracking, register, settings: Settings) -> None:
    older = make_splits()
    older["holdout"] = 0
    case = make_case()
    case.splits = older
    found = compare_with_champion(
        tracking, register("a", make_case(), OTHER)[1], *register("b", case), settings=settings
    )
    assert found.missing_evidence.endswith("it was trained on every patient of this hold-out")


def test_what_cannot_be_read_is_named(tracking, register) -> None:
    version, _ = register("a", make_case())
    folder = files_of(tracking, version) / "evidence"
    (folder / "splits" / "splits.csv").write_text("image_id,patient_id\nx,y\n")
    (folder / "evaluation" / "groups.csv").write_text("stage,value\nstage-1,high\n")
    (folder / "evaluation" / "shortcuts.csv").write_text("predictor,value\nage,0.5\n")
    (folder / "stage-1" / "unimodal-mri-patient.parquet").write_bytes(b"PAR1")
    (files_of(tracking, version) / "manifest.json").write_text("[")
    (files_of(tracking, version) / "artifacts" / "model.json").write_text("{}")
    kept = read_stored_evidence(tracking, version)
    assert (kept.splits, kept.shortcuts, kept.groups, kept.threshold) == (None, None, None, None)
    assert (kept.predictions, kept.recorded) == ({}, {})
    assert kept.faults["splits/splits.csv"].startswith("cannot be read (without fold_image, fold_patient, holdout")
    assert kept.faults["evaluation/groups.csv"].startswith("cannot be read (without architecture, by, ci_high")
    assert kept.faults["evaluation/shortcuts.csv"] == "cannot be read (without images, metric, validation)"
    assert "not a readable parquet file" in kept.faults["predictions"]
    assert kept.faults["record of the files"] == "manifest.json is not the one that was registered"
    assert kept.faults["threshold"].startswith("without architecture, spec")


def test_a_manifest_counts_only_as_it_was_registered(tracking, register) -> None:
    version, before = register("a", make_case())
    assert before.changes == () and "evidence/splits/splits.csv" in before.recorded
    path = files_of(tracking, version) / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))
    changed = read_stored_evidence(tracking, version)
    assert changed.recorded == {}
    (result,) = judge(complete_evidence(tracking, version, changed), [GateRule(rule="files_intact")]).results
    assert result.found == "record of the files: manifest.json is not the one that was registered"
    assert not result.missing_evidence
