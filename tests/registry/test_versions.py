"""Versions: registered once, with everything that they need, and never changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError, StaleDataError, WeightsError
from osteo_models.models import build
from osteo_models.registry.manifest import read_manifest
from osteo_models.registry.package import load_network, open_package, read_stored_file
from osteo_models.registry.registration import register_version
from osteo_models.registry.retention import read_runs
from osteo_models.registry.tracking import open_tracking
from osteo_models.registry.verify import check_version
from osteo_models.registry.versions import get_version, list_versions, set_alias
from tests.registry.conftest import RECORD, TAGS
from tests.registry.photograph import photograph
from tests.serving.ood_cases import write_ood


def _files(tracking, version) -> Path:
    place = tracking.client.get_logged_model(version.model_id).artifact_location
    return Path(place.removeprefix("file://"))


def test_a_version_carries_what_it_needs(tracking, register, make_job, make_model, stage, tmp_path: Path) -> None:
    job = make_job()
    folder = make_model(job.key)
    evidence = tmp_path / "stage-5" / "unimodal-mri-patient.parquet"
    evidence.parent.mkdir()
    evidence.write_bytes(b"scores")
    metrics = {**stage(1, 0.9), **stage(1, 0.95, protocol="image"), **stage(5, 0.8)}
    version = register(metrics, folder=folder, job=job, evidence=[evidence])

    assert version.name == "osteo-unimodal-mri"
    assert version.metrics == metrics
    assert "challenger" in version.aliases
    assert version.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (version.job, version.tags["osteo.job"]) == (job.key, job.key)
    assert version.tags["git.commit"] == "1f3a"
    assert version.tags["stage_1.patient.balanced_accuracy"] == "0.900 [0.850, 0.940]"
    assert json.dumps(dataclasses.asdict(version))

    files = _files(tracking, version)
    assert (files / "artifacts" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (files / "evidence" / "stage-5" / "unimodal-mri-patient.parquet").read_bytes() == b"scores"
    with open_package(tracking, version) as package:
        listed = read_manifest(package.folder)
    kept = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(listed) == kept
    assert listed["evidence/stage-5/unimodal-mri-patient.parquet"] == hashlib.sha256(b"scores").hexdigest()
    assert listed["artifacts/model.safetensors"] == version.sha256
    assert version.tags["osteo.manifest"] == hashlib.sha256((files / "manifest.json").read_bytes()).hexdigest()
    assert read_stored_file(tracking, version, "record/card.md").decode().startswith("**Synthetic cohort.**")
    requirements = (files / "requirements.txt").read_text().split()
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements
    assert len(json.loads((files / "input_example.json").read_text())["data"]) == 2
    assert not list(files.rglob("*.pkl"))
    assert not list(files.rglob("__pycache__"))

    held = tracking.client.get_model_version(version.name, str(version.version))
    assert "test bed, not evidence" in held.description
    assert "| stage-5 | patient | 500 | 40 | 0.800 [0.750, 0.840] |" in held.description


def test_the_run_of_a_version_shows_all_stages_beside_its_job(tracking, register, make_job, stage) -> None:
    job = make_job()
    metrics = {**stage(1), **stage(5)}
    version = register(metrics, job=job)
    run = tracking.client.get_run(version.run_id)
    parent = tracking.find_job(job.key)
    assert run.data.metrics == metrics
    assert run.data.params == {"architecture": "unimodal", "images": "mri", "precision": "float32"}
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.info.status == "FINISHED"
    assert parent.metrics == {}
    links = json.loads(tracking.client.get_logged_model(version.model_id).tags["mlflow.modelVersions"])
    assert links == [{"name": version.name, "version": str(version.version)}]


def test_the_same_again_is_the_same_version_and_nothing_is_written(
    tracking, register, make_job, make_model, stage
) -> None:
    job = make_job()
    folder = make_model(job.key)
    first = register(stage(1, 0.9), folder=folder, job=job)
    before, count = photograph(tracking, first), len(list_versions(tracking, first.name))
    again = register(stage(1, 0.9), folder=folder, job=job)
    assert again == first and photograph(tracking, first) == before
    assert len(list_versions(tracking, first.name)) == count


def test_two_processes_that_register_the_same_make_one_version(tracking, make_job, make_model, stage) -> None:
    job = make_job(stage="stage-6")
    run_id, folder = tracking.begin_job(job), make_model(job.key, images="combined", seed=77)
    common = {"model_folder": folder, "metrics": stage(6, 0.9), "tags": TAGS, "files": RECORD, "run_id": run_id}

    def register_once(_: int) -> int:
        other = open_tracking(tracking.uri, Path(tracking.artifacts.removeprefix("file://")))  # with a lock of its own
        return register_version(other, **common).version

    with ThreadPoolExecutor(3) as pool:
        numbers = set(pool.map(register_once, range(3)))
    assert len(numbers) == 1
    registered = [found for found in list_versions(tracking, "osteo-unimodal-combined") if found.job == job.key]
    assert [found.version for found in registered] == list(numbers)


def test_another_evaluation_of_the_same_weights_is_another_version(
    tracking, register, make_job, make_model, stage, tmp_path: Path
) -> None:
    job, evidence = make_job(), tmp_path / "evaluation" / "groups.csv"
    folder = make_model(job.key)
    evidence.parent.mkdir()
    evidence.write_text("group,value\n")
    first = register(stage(1, 0.9), folder=folder, job=job, evidence=[evidence])
    before = photograph(tracking, first)
    other = register({**stage(1, 0.85), **stage(5, 0.8)}, folder=folder, job=job, evidence=[evidence])
    evidence.write_text("group,value\nF,0.9\n")
    third = register({**stage(1, 0.85), **stage(5, 0.8)}, folder=folder, job=job, evidence=[evidence])
    assert first.version < other.version < third.version and len({first.sha256, other.sha256, third.sha256}) == 1
    assert len({first.run_id, other.run_id, third.run_id}) == 3
    assert other.metrics == third.metrics == {**stage(1, 0.85), **stage(5, 0.8)}
    assert other.tags["stage_1.patient.balanced_accuracy"] == "0.850 [0.800, 0.890]"
    assert third.aliases == ("challenger",)
    assert photograph(tracking, get_version(tracking, f"{first.name}/{first.version}")) == before


def test_a_damaged_version_stays_as_it_is_and_is_registered_anew(
    tracking, register, make_job, make_model, stage
) -> None:
    job = make_job()
    folder = make_model(job.key)
    first = register(stage(1), folder=folder, job=job)
    path = _files(tracking, first) / "artifacts" / "model.json"
    path.write_text("{}")
    second = register(stage(1), folder=folder, job=job)
    assert second.version > first.version and path.read_text() == "{}"
    tracking.client.set_model_version_tag(second.name, str(second.version), "dvc.data", "e" * 32)
    tracking.client.set_model_version_tag(second.name, str(second.version), "osteo.identity", "0" * 64)
    third = register(stage(1), folder=folder, job=job)
    assert third.version > second.version and third.tags["dvc.data"] == TAGS["dvc.data"]
    assert len({first.run_id, second.run_id, third.run_id, first.model_id, second.model_id, third.model_id}) == 6
    assert register(stage(1), folder=folder, job=job) == third


def test_other_weights_or_another_job_are_another_version(register, make_job, stage) -> None:
    job = make_job()
    first = register(stage(1), job=job, seed=1)
    second = register(stage(1), job=job, seed=2)
    third = register(stage(1), seed=2)
    assert first.version < second.version < third.version
    assert second.sha256 == third.sha256 != first.sha256


def test_an_older_model_registered_again_does_not_take_the_challenger_back(
    tracking, register, make_job, make_model, stage
) -> None:
    job = make_job()
    folder = make_model(job.key)
    old = register(stage(1), folder=folder, job=job)
    new = register(stage(1), seed=3)
    assert "challenger" in new.aliases
    again = register(stage(1), folder=folder, job=job)
    assert (again.version, again.aliases) == (old.version, ())
    assert get_version(tracking, f"{old.name}@challenger").version == new.version


STEPS = ("create_run", "create_logged_model", "log_outputs", "set_logged_model_tags", "log_model_artifacts")
STEPS += ("log_batch", "set_terminated", "finalize_logged_model", "create_model_version", "update_run")
STEPS += ("set_registered_model_alias",)
LOST = {("create_logged_model", True), ("log_outputs", False)}  # a model that no run knows of


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_registration_that_was_killed_is_completed(
    tracking, register, make_job, make_model, stage, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    job = make_job()
    folder = make_model(job.key)
    parent = tracking.begin_job(job)
    do = getattr(MlflowClient, step)

    def die(*args, **kwargs) -> None:
        if after:
            do(*args, **kwargs)
        raise KeyboardInterrupt

    given = {"model_folder": folder, "metrics": stage(5), "tags": TAGS, "files": RECORD, "run_id": parent}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, step, die)
        register_version(tracking, **given)
    version = register_version(tracking, **given)
    assert version.metrics == stage(5) == tracking.client.get_run(version.run_id).data.metrics
    assert "challenger" in version.aliases
    assert [each.job for each in list_versions(tracking, version.name)].count(job.key) == 1
    assert list(check_version(tracking, version, read_runs(tracking))) == []
    experiment = tracking.client.get_run(parent).info.experiment_id
    (run,) = tracking.find_runs([experiment], {"mlflow.parentRunId": parent})
    assert (run.info.run_id, run.info.status) == (version.run_id, "FINISHED")
    models = tracking.client.search_logged_models([experiment], filter_string=f"source_run_id = '{version.run_id}'")
    assert version.model_id in [each.model_id for each in models]
    assert len(models) == (2 if (step, after) in LOST else 1)  # `osteo gc` takes the one that its run does not name


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("no weights", "safetensors"),
        ("other weights", "tensors do not fit"),
        ("no record", r"model\.json: file not found; make it again"),
        ("not JSON", r"model\.json: cannot be read"),
        ("no key", r"model\.json: without key, prepare"),
        ("other images", r"model\.json: images 'xray'; allowed: mri, ct, combined, multimodal"),
    ],
)
def test_what_cannot_be_loaded_is_not_registered(tracking, register, make_model, stage, fault: str, found: str) -> None:
    folder = make_model()
    record = json.loads((folder / "model.json").read_text())
    if fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "other weights":
        record["architecture"] = "traditional_cnn"
    elif fault == "no key":
        del record["key"], record["prepare"]
    elif fault == "other images":
        record["images"] = "xray"
    (folder / "model.json").write_text("{" if fault == "not JSON" else json.dumps(record))
    if fault == "no record":
        (folder / "model.json").unlink()
    before = list_versions(tracking)
    with pytest.raises(WeightsError, match=found):
        register(stage(1), folder=folder)
    assert list_versions(tracking) == before


def test_versions_are_found_by_number_and_alias(tracking, register, stage) -> None:
    register(stage(2), architecture="traditional_cnn", images="ct", seed=1)
    newest = register(stage(2), architecture="traditional_cnn", images="ct", seed=2)
    name = "osteo-traditional_cnn-ct"
    set_alias(tracking, name, "champion", 1)
    assert get_version(tracking, f"{name}@champion").version == 1
    assert get_version(tracking, f"{name}/1").aliases == ("champion",)
    assert get_version(tracking, name) == newest
    assert [each.version for each in list_versions(tracking, name)] == [newest.version, 1]
    assert newest.uri == f"models:/{name}/{newest.version}"
    set_alias(tracking, name, "champion", newest.version)
    assert get_version(tracking, f"{name}/1").aliases == ()
    assert {each.name for each in list_versions(tracking)} >= {name, "osteo-unimodal-mri"}
    for reference, found in {
        f"{name}@nobody": "no version @nobody; allowed: 2 @challenger @champion, 1",
        f"{name}/7": "no version 7; allowed: 2 ",
        "osteo-nothing": "no registered model 'osteo-nothing'; allowed: osteo-",
    }.items():
        with pytest.raises(InputError, match=found):
            get_version(tracking, reference)


def test_an_empty_registry_says_how_to_fill_it(tmp_path: Path, fresh_store: Path) -> None:
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    tracking = open_tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    assert list_versions(tracking) == []
    with pytest.raises(InputError, match="none is registered yet; register models with `dvc repro register`"):
        get_version(tracking, "osteo-multimodal@champion")


def test_the_network_comes_back_as_it_was(tracking, register, stage) -> None:
    version = register(stage(1), seed=11)
    loaded = load_network(tracking, f"{version.name}/{version.version}")
    wanted = build("unimodal", seed=11).state_dict()
    assert loaded.record.key == version.job
    assert not loaded.network.training
    for name, tensor in loaded.network.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_weights_changed_afterwards_are_refused(tracking, register, stage) -> None:
    version = register(stage(1), seed=12)
    path = _files(tracking, version) / "artifacts" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StaleDataError, match=f"{version.uri}: artifacts/model.safetensors is changed; restore"):
        load_network(tracking, version)


def test_a_version_whose_model_was_deleted_has_no_metrics_left(tracking, register, stage) -> None:
    version = register(stage(2), images="ct")
    tracking.client.delete_logged_model(version.model_id)
    with pytest.raises(MlflowException):
        tracking.client.get_logged_model(version.model_id)
    assert get_version(tracking, f"{version.name}/{version.version}").metrics == {}


def test_the_out_of_distribution_reference_is_kept_and_loaded(tracking, register, make_job, make_model, stage) -> None:
    job = make_job()
    folder = make_model(job.key, seed=13)
    assert load_network(tracking, register(stage(1), folder=folder, job=job)).ood is None
    write_ood(folder)
    version = register(stage(1), folder=folder, job=job)
    assert read_stored_file(tracking, version, "artifacts/ood.safetensors")
    assert load_network(tracking, version).ood is not None


def test_bytecode_beside_the_code_is_told_and_can_be_deleted(tracking, register, stage) -> None:
    version = register(stage(1), seed=14)
    place = _files(tracking, version) / "code" / "osteo_models" / "__pycache__"
    place.mkdir()
    for name in ("terms.cpython-311.pyc", "errors.cpython-311.pyc"):
        (place / name).write_bytes(b"compiled")
    with pytest.raises(StaleDataError, match=r"errors.cpython-311.pyc is not in the manifest, code/"):
        load_network(tracking, version)
    found = [finding for finding in check_version(tracking, version, read_runs(tracking)) if ".pyc" in finding.found]
    assert [finding.remedy.partition(":")[0] for finding in found] == ["delete it", "delete it"]
    shutil.rmtree(place)
    load_network(tracking, version)


def test_links_of_the_card_lead_to_what_is_there(tracking, register, make_job, stage) -> None:
    job = make_job()
    version = register(stage(1), job=job, seed=15)
    card = tracking.client.get_model_version(version.name, str(version.version)).description
    run = tracking.client.get_run(version.run_id)
    here = f"#/experiments/{run.info.experiment_id}"
    assert f"]({here}/runs/{version.run_id})" in card and f"]({here}/models/{version.model_id}/artifacts)" in card
    assert f"]({here}/runs/{tracking.find_job(job.key).run_id}/artifacts/report/index.html)" in card
