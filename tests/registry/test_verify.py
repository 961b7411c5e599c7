"""Every flipped bit is found, and every run that a version needs is missed."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil

import pytest
from mlflow.entities import Metric

from osteo_models.data.revisions import find_cache
from osteo_models.ops.doctor.problem import Project
from osteo_models.ops.doctor.store_checks import check_versions
from osteo_models.registry.retention import read_runs
from osteo_models.registry.verify import ADDED, check_data, check_version, choose_versions
from osteo_models.registry.versions import get_version

FLIPS = 100


def findings(project, cache=None, *, paths=False):
    found = list(check_version(project.tracking, project.version, read_runs(project.tracking)))
    return [str(each) for each in [*found, *check_data(project.root, "data", cache, paths=paths)]]


def flip(path, rng):
    """Flip one bit, and give size and times back."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_each_of_a_hundred_flipped_bits_is_found(project) -> None:
    cache = find_cache(project.root)
    assert cache and cache.samefile(project.root / ".dvc" / "cache")
    assert findings(project, cache) == []
    kinds = {
        "weights": [project.files / "artifacts" / "model.safetensors"],
        "predictions": sorted((project.files / "evidence").rglob("*.parquet")),
        "card": [project.files / "record" / "card.md"],
        "data": [path for path in sorted((project.root / "data").rglob("*")) if path.is_file()],
        "cache": sorted(path for path in (cache / "files" / "md5").rglob("*") if path.is_file()),
        "manifest": [project.files / "manifest.json"],
    }
    assert len(kinds["predictions"]) == 2 and len(kinds["data"]) == 4 and len(kinds["cache"]) == 5
    rng, found = random.Random(5), 0
    for number in range(FLIPS):
        path = rng.choice(list(kinds.values())[number % len(kinds)])
        content = path.read_bytes()
        flip(path, rng)
        told = findings(project, cache)
        found += len(told) == 1
        path.write_bytes(content)
    assert found == FLIPS
    assert findings(project, cache) == []


def test_a_finding_says_what_and_where_and_the_way_out(project) -> None:
    cache, rng = find_cache(project.root), random.Random(1)
    flip(project.files / "evidence" / "stage-5" / "unimodal-mri-patient.parquet", rng)
    flip(project.root / "data" / "dicom" / "mri001" / "mri-001.dcm", rng)
    (project.root / "data" / "clinical.csv").unlink()
    (project.root / "data" / "notes.txt").write_text("mine")
    (project.files / "python_model.pkl").write_bytes(b"\x80")
    (project.files / "record" / "params.yaml").unlink()
    told = findings(project, cache)
    restore = "restore the file from a backup, or register a new version with `dvc repro -f register`"
    assert told == [
        f"osteo-unimodal-mri version 1: evidence/stage-5/unimodal-mri-patient.parquet is changed; {restore}",
        f"osteo-unimodal-mri version 1: python_model.pkl is not in the manifest; {ADDED}",
        f"osteo-unimodal-mri version 1: record/params.yaml is missing; {restore}",
        "data: file 1 of 4 in the order of names (`--paths` names it) is missing; delete it, then `dvc checkout data`",
        "data: file 3 of 4 in the order of names (`--paths` names it) is changed; delete it, then `dvc checkout data`",
        "data: a file (`--paths` names it) is not recorded; `dvc add data` or delete it",
    ]
    assert "mri001" not in "".join(told)
    assert "data: dicom/mri001/mri-001.dcm is changed" in "".join(findings(project, cache, paths=True))


def test_a_damaged_version_is_registered_anew_as_another(project) -> None:
    flip(project.files / "artifacts" / "model.safetensors", random.Random(2))
    assert len(findings(project)) == 1
    again = project.register()
    assert again.version == 2 and len(findings(project)) == 1
    assert list(check_version(project.tracking, again, read_runs(project.tracking))) == []


def test_tags_metrics_and_card_are_those_that_were_registered(project) -> None:
    client, name = project.tracking.client, "osteo-unimodal-mri"
    client.set_model_version_tag(name, "1", "reviewed", "by a person")
    card = client.get_model_version(name, "1").description
    client.update_model_version(name, "1", f"{card}\nA person's own note.")
    assert findings(project) == []
    point = Metric("stage_5.patient.balanced_accuracy", 0.99, 2**42, 1, model_id=project.version.model_id)
    project.tracking.log_points(project.version.run_id, [point])
    client.set_model_version_tag(name, "1", "synthetic", "false")
    client.set_model_version_tag(name, "1", "osteo.stamp", "good")
    client.delete_model_version_tag(name, "1", "git.tree")
    client.update_model_version(name, "1", "The best of all.")
    changed = dataclasses.replace(project, version=get_version(project.tracking, f"{name}/1"))
    way = "set it back in MLflow, or register a new version with `dvc repro -f register`"
    assert findings(changed) == [
        f"osteo-unimodal-mri version 1: {found}; {way}"
        for found in (
            "tag git.tree is gone",
            "tag osteo.stamp was added",
            "tag synthetic is false, registered as true",
            "metric stage_5.patient.balanced_accuracy is 0.99, registered as 0.8",
            "the description does not begin with the card that was registered",
        )
    ]
    told = [str(each) for each in check_versions(Project(project.settings, project.params, project.tracking, None))]
    assert told == findings(changed)


def test_data_that_is_gone_is_told(project) -> None:
    shutil.rmtree(project.root / "data")
    assert findings(project) == ["data: the data set is not here; get it with `dvc checkout data` or `dvc pull`"]
    (project.root / "data.dvc").unlink()
    assert findings(project) == ["data.dvc: missing or unreadable; get it back with `git checkout data.dvc`"]


def test_without_a_cache_the_data_is_proven_as_a_whole(project) -> None:
    assert findings(project, None) == []
    flip(project.root / "data" / "clinical.csv", random.Random(3))
    (told,) = findings(project, None)
    assert told.startswith("data: the files (md5 ") and "are not those that data.dvc records" in told


@pytest.mark.parametrize("role", ["registration", "job", "fold", "stage-1"])
def test_a_needed_run_that_was_deleted_is_told(project, role: str) -> None:
    client = project.tracking.client
    run = client.get_run(project.version.run_id)
    stage_1, stage_5 = (project.tracking.find_job(job.key).run_id for job in project.jobs)
    assert run.data.tags["mlflow.parentRunId"] == stage_5
    wanted = {"registration": run.info.run_id, "job": stage_5, "stage-1": stage_1}
    if role == "fold":
        tags = {"mlflow.parentRunId": stage_5, "osteo.fold": "0"}
        wanted["fold"] = client.create_run(run.info.experiment_id, tags=tags).info.run_id
    client.delete_run(wanted[role])
    said = {"registration": "the run of its registration", "job": "the run of its job", "fold": "fold 0 of its job"}
    (told,) = findings(project)
    shown = said.get(role, f"the run of job {project.jobs[0].key}")
    restore = f"restore it with `mlflow runs restore --run-id {wanted[role]}` in this store"
    assert told == f"osteo-unimodal-mri version 1: {shown} was deleted; {restore}"
    client.restore_run(wanted[role])
    assert findings(project) == []


def test_runs_lost_with_their_experiment_or_for_good_are_told(project) -> None:
    client, head = project.tracking.client, "osteo-unimodal-mri version 1: the run of "
    client.delete_experiment(client.get_run(project.version.run_id).info.experiment_id)
    told = findings(project)
    assert [each.partition(" was deleted; ")[0] for each in told] == [f"{head}its registration", f"{head}its job"]
    run_id = project.tracking.find_job(project.jobs[0].key).run_id
    client._tracking_client.store._hard_delete_run(run_id)  # what `mlflow gc` does
    assert f"{head}job {project.jobs[0].key} is gone from MLflow; restore the database" in findings(project)[-1]


def test_the_doctor_misses_a_run_that_was_deleted_or_purged_elsewhere(project) -> None:
    given = Project(project.settings, project.params, project.tracking, None)
    assert list(check_versions(given)) == []
    client, run_id = project.tracking.client, project.version.run_id
    client.delete_run(run_id)
    (told,) = check_versions(given)
    restore = f"restore it with `mlflow runs restore --run-id {run_id}` in this store"
    assert str(told) == f"osteo-unimodal-mri version 1: the run of its registration was deleted; {restore}"
    client._tracking_client.store._hard_delete_run(run_id)  # what `mlflow gc` does
    gone = " ".join(map(str, check_versions(given)))
    assert "osteo-unimodal-mri version 1: the run of its registration is gone from MLflow; restore the database" in gone
    flip(project.files / "artifacts" / "model.safetensors", random.Random(4))
    assert "model.safetensors" not in " ".join(map(str, check_versions(given)))  # `osteo verify` reads every byte
    shutil.rmtree(project.files)
    assert any("its files are not at" in each.found for each in check_versions(given))


def test_a_deleted_model_is_told(project) -> None:
    project.tracking.client.delete_logged_model(project.version.model_id)
    told = findings(project)
    assert len(told) == 1 and told[0].startswith("osteo-unimodal-mri version 1: MLflow has lost its model; restore")


def test_a_project_that_was_moved_keeps_its_versions(project, made_project) -> None:
    """The copy of the fixture lies elsewhere, and its store names its own files."""
    assert project.files.is_relative_to(project.root)
    found = project.tracking.client.get_model_version(project.version.name, "1")
    assert str(project.root) in found.source and str(made_project.root) not in found.source
    assert str(made_project.root) not in project.tracking.client.get_run(project.version.run_id).info.artifact_uri
    assert str(made_project.root) in made_project.tracking.client.get_model_version(found.name, "1").source


def test_files_left_behind_by_a_move_are_told(project) -> None:
    shutil.move(project.settings.state / "mlartifacts", project.root / "elsewhere")
    (told,) = findings(project)
    assert "osteo-unimodal-mri version 1: its files are not at " in told
    assert "if the project was moved, move its state folder with it" in told


def test_what_is_checked_is_chosen_by_name(project) -> None:
    assert [each.version for each in choose_versions(project.tracking, None)] == [1]
    assert [each.version for each in choose_versions(project.tracking, "osteo-unimodal-mri")] == [1]
    assert [each.version for each in choose_versions(project.tracking, "osteo-unimodal-mri@challenger")] == [1]
