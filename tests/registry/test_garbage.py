"""What nothing can reach goes, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError, OsteoError, StaleDataError
from osteo_models.registry.garbage import delete_run, find_garbage, remove_garbage
from osteo_models.registry.package import load_network
from osteo_models.registry.retention import read_runs
from osteo_models.registry.verify import check_version
from osteo_models.registry.versions import get_version, list_versions


def collect(project, hours: float = 0.0):
    return find_garbage(project.tracking, project.settings, older_than_seconds=hours * 3600)


def add_job(project, key: str, *, finished: bool = True) -> Path:
    folder = project.settings.jobs / key
    shutil.copytree(project.settings.jobs / project.jobs[1].key, folder)
    if not finished:
        (folder / "fold-0" / "result.json").unlink()
    return folder


def test_a_fresh_project_has_no_garbage(project) -> None:
    assert collect(project) == []


def test_unreachable_things_go_and_the_version_stays_whole(project) -> None:
    client, state = project.tracking.client, project.settings.state
    old, unfinished = add_job(project, "a" * 16), add_job(project, "b" * 16, finished=False)
    begun = add_job(project, "c" * 16)  # of a run that was killed: it will be continued
    experiment = project.tracking.find_experiment("osteo/stage-1")
    client.create_run(experiment, tags={"osteo.job": "c" * 16})
    dead = client.create_run(experiment).info
    (project.root / "page.html").write_text("page")
    project.tracking.log_artifact(dead.run_id, project.root / "page.html")
    client.delete_run(dead.run_id)
    for name in ("features/" + "d" * 32 + ".npy", "reproduce-x/f", "ray/job/state.json"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("x")
    dead_files = Path(dead.artifact_uri.removeprefix("file://"))
    found = collect(project)
    assert {item.path for item in found} == {
        *(old, dead_files, state / "features" / f"{'d' * 32}.npy"),
        *(state / "reproduce-x", state / "ray" / "job"),
    }
    assert all(item.bytes > 0 for item in found)
    assert dead_files.exists()  # so far it was only said
    remove_garbage(project.tracking, project.settings, found)
    assert collect(project) == []
    assert not any(item.path.exists() for item in found) and not (state / "gone").exists()
    assert unfinished.exists() and begun.exists()
    assert list(check_version(project.tracking, project.version, read_runs(project.tracking))) == []
    load_network(project.tracking, project.version)


@pytest.mark.parametrize("name", ["record/origin.json", "artifacts/model.json"])
def test_nothing_is_removed_while_it_is_not_known_what_a_version_needs(project, name: str) -> None:
    add_job(project, "a" * 16)
    (project.files / name).write_text("{}")
    with pytest.raises(StaleDataError, match=f"models:/osteo-unimodal-mri/1: {name} is changed; restore the file"):
        collect(project)
    free = project.tracking.client.create_run(project.tracking.find_experiment("osteo/stage-1")).info.run_id
    if name.startswith("record"):
        with pytest.raises(StaleDataError):
            delete_run(project.tracking, free)
        assert project.tracking.client.get_run(free).info.lifecycle_stage == "active"


def test_what_was_used_lately_stays(project) -> None:
    old = add_job(project, "a" * 16)
    assert [item.path for item in collect(project)] == [old]
    assert collect(project, hours=1) == []
    for path in (old, *old.rglob("*")):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert [item.path for item in collect(project, hours=1)] == [old]


def test_results_stay_while_the_experiments_are_unfinished(project) -> None:
    add_job(project, "a" * 16)
    (project.settings.artifacts / "jobs.json").unlink()
    assert collect(project) == []


def test_jobs_and_features_of_a_version_and_of_the_artifacts_stay(project) -> None:
    """Another job has taken the place of the version's in the artifacts; both are reached."""
    (project.settings.state / "features").mkdir()
    for name in ("d" * 32, "e" * 32):
        (project.settings.state / "features" / f"{name}.npy").write_bytes(b"x")
    artifacts = project.settings.artifacts
    path = artifacts / "models" / "unimodal-mri" / "model.json"
    model = json.loads(path.read_text())
    add_job(project, "a" * 16)
    path.write_text(json.dumps(model | {"key": "a" * 16, "job": {"pretrained": {"features": "d" * 32}}}))
    (artifacts / "jobs.json").write_text("[]")
    assert [item.path.name for item in collect(project)] == [f"{'e' * 32}.npy"]
    shutil.rmtree(artifacts / "models")
    assert {item.path.name for item in collect(project)} == {f"{'d' * 32}.npy", f"{'e' * 32}.npy", "a" * 16}


def test_a_model_left_by_a_kill_before_its_version_is_taken(project, monkeypatch: pytest.MonkeyPatch) -> None:
    client, record = project.tracking.client, project.settings.artifacts / "models" / "unimodal-mri" / "model.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"threshold": 0.6}))  # another version

    def die(*_args, **_kwargs) -> None:
        raise KeyboardInterrupt

    for step in ("log_outputs", "create_model_version"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, step, die)
            project.register()
    found = collect(project)
    assert len(found) == 2 and all("without a version" in item.what for item in found)
    assert project.version.model_id not in {item.model_id for item in found}
    remove_garbage(project.tracking, project.settings, found)
    assert collect(project) == []
    again = project.register()  # the model that its run names is gone: another is made
    assert again.version == 2 and again.model_id not in {item.model_id for item in found}
    assert collect(project) == []
    experiment = project.tracking.find_experiment("osteo/stage-5")
    kept = {model.model_id for model in client.search_logged_models([experiment])}
    assert kept == {version.model_id for version in list_versions(project.tracking)}


def test_every_version_of_the_same_weights_keeps_what_it_needs(project) -> None:
    second = project.register(resamples=500)
    assert (second.version, second.sha256) == (
        2,
        project.version.sha256,
    ) and second.model_id != project.version.model_id
    assert collect(project) == []
    for version in (project.version, second):
        with pytest.raises(OsteoError, match=f"version {version.version} needs it: the run of its registration"):
            delete_run(project.tracking, version.run_id)
    project.tracking.client.delete_model_version(second.name, "2")
    assert [item.model_id for item in collect(project)] == [second.model_id]
    remove_garbage(project.tracking, project.settings, collect(project))
    assert list(check_version(project.tracking, project.version, read_runs(project.tracking))) == []
    load_network(project.tracking, project.version)


def test_a_killed_removal_goes_on(project, monkeypatch: pytest.MonkeyPatch) -> None:
    old = add_job(project, "a" * 16)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_args, **_kwargs: None)
        remove_garbage(project.tracking, project.settings, collect(project))
    (left,) = collect(project)
    assert not old.exists() and left.path == project.settings.state / "gone"
    remove_garbage(project.tracking, project.settings, [left])
    assert collect(project) == [] and not left.path.exists()


def test_what_others_registered_from_our_files_is_reached(project) -> None:
    client = project.tracking.client
    run = client.create_run(project.tracking.find_experiment("osteo/stage-1")).info
    (project.root / "page.html").write_text("page")
    project.tracking.log_artifact(run.run_id, project.root / "page.html")
    client.create_registered_model("theirs")
    client.create_model_version("theirs", run.artifact_uri, run_id=run.run_id)
    client.delete_run(run.run_id)
    assert collect(project) == []
    client.delete_model_version("theirs", "1")
    assert [item.name for item in collect(project)] == [f"run {run.run_id}"]


def test_a_run_that_a_version_needs_is_not_deleted(project) -> None:
    client = project.tracking.client
    needed = [project.version.run_id, *(project.tracking.find_job(job.key).run_id for job in project.jobs)]
    for run_id in needed:
        with pytest.raises(OsteoError, match=f"run {run_id}: osteo-unimodal-mri version 1 needs it: the run of .*noth"):
            delete_run(project.tracking, run_id)
        assert client.get_run(run_id).info.lifecycle_stage == "active"
    free = client.create_run(project.tracking.find_experiment("osteo/stage-1")).info.run_id
    delete_run(project.tracking, free, dry_run=True)
    assert client.get_run(free).info.lifecycle_stage == "active"
    delete_run(project.tracking, free)
    assert client.get_run(free).info.lifecycle_stage == "deleted"
    with pytest.raises(InputError, match="run nothing: no such run"):
        delete_run(project.tracking, "nothing")


def test_files_of_a_deleted_run_that_a_version_needs_stay(project) -> None:
    run_id = project.tracking.find_job(project.version.job).run_id
    (project.root / "page.html").write_text("page")
    project.tracking.log_artifact(run_id, project.root / "page.html")
    project.tracking.client.delete_run(run_id)
    assert collect(project) == []
    project.tracking.client.delete_model_version(project.version.name, "1")
    assert f"run {run_id}" in {item.name for item in collect(project)}


def test_versions_outlive_any_number_of_collections(project) -> None:
    """A random history: jobs, runs and models come and go, and each version stays whole."""
    rng, client = np.random.default_rng(3), project.tracking.client
    record = project.settings.artifacts / "models" / "unimodal-mri" / "model.json"
    model, lost = json.loads(record.read_text()), 0
    for number in range(8):
        record.write_text(json.dumps(model | {"threshold": 0.1 + 0.1 * int(rng.integers(3))}))
        project.register()
        add_job(project, f"{number:016x}")
        if rng.random() < 0.5:
            client.delete_run(get_version(project.tracking, "osteo-unimodal-mri").run_id)
        if rng.random() < 0.3 and len(list_versions(project.tracking)) > 1:
            client.delete_model_version(
                "osteo-unimodal-mri", str(min(v.version for v in list_versions(project.tracking)))
            )
        remove_garbage(project.tracking, project.settings, collect(project))
        assert {path.name for path in project.settings.jobs.glob("*")} == {project.jobs[1].key}
        for version in list_versions(project.tracking):
            held = dataclasses.replace(project, version=version)
            told = [str(each) for each in check_version(held.tracking, version, read_runs(held.tracking))]
            assert all("was deleted" in each for each in told), told
            lost += len(told)
            load_network(project.tracking, version)
    assert lost > 0
