"""Lineage forwards and backwards, from what versions keep alone."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess

import pandas as pd
import pytest

from osteo_models.core.errors import InputError, StaleDataError
from osteo_models.data.revisions import read_data_digest
from osteo_models.data.tables import read_frame
from osteo_models.registry.lineage import describe_lineage, find_data, find_patient, format_lineage, read_data_usage


def seen(project):
    """Patients of the MRI images that are trained on, and of the hold-out, straight from the table."""
    table = read_frame(project.settings.artifacts / "splits" / "splits.csv")
    table = table[table["modality"] == "mri"]
    return table[table["holdout"] == 0], table[table["holdout"] == 1]


def test_a_version_says_where_it_comes_from(project) -> None:
    train, test = seen(project)
    found = describe_lineage(project.tracking, project.version, project.root, patients=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True).stdout.strip()
    assert found["data"] == {"path": "data", "md5": read_data_digest(project.root), "git_commit": head}
    assert found["splits"]["trained_on"] == {
        "patients": train["patient_id"].nunique(),
        "images": len(train),
        "list": sorted(set(train["patient_id"])),
    }
    assert found["splits"]["tested_on"]["list"] == sorted(set(test["patient_id"]))
    assert found["code"]["trained"] == {"git.commit": "0" * 40, "git.tree": "1" * 40}
    assert found["code"]["registered"] == {"git.commit": head, "git.tree": project.version.tags["git.tree"]}
    assert found["code"]["committed"] == ""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["add", "params.yaml", "requirements.lock"], ["commit", "-qm", "code"]):
        subprocess.run([*git, *command], cwd=project.root, check=True)
    later = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True).stdout
    again = describe_lineage(project.tracking, project.version, project.root, patients=True)
    assert (again["code"]["committed"], again["data"]["git_commit"]) == (later.strip(), head)
    assert found["code"]["results"] == project.jobs[0].versions
    assert found["environment"]["python"] == platform.python_version()
    assert len(found["environment"]["lock_sha256"]) == 64
    assert found["search"] is None and found["parent_weights"] is None
    assert [(each["stage"], each["job"]) for each in found["metrics"]] == [
        (job.stage, job.key) for job in sorted(project.jobs, key=lambda job: job.stage)
    ]
    assert json.loads(json.dumps(found)) == found


def test_patients_are_named_only_when_asked_for(project) -> None:
    train, test = seen(project)
    found = describe_lineage(project.tracking, project.version, project.root)
    named = [patient for patient in {*train["patient_id"], *test["patient_id"]} if patient in json.dumps(found)]
    assert named == []
    text = "\n".join(format_lineage(found))
    assert f"trained on {train['patient_id'].nunique()} patients, {len(train)} images" in text
    assert "lock file" in text and "none: trained from the start" in text
    asked = format_lineage(describe_lineage(project.tracking, project.version, project.root, patients=True))
    assert f"      {train['patient_id'].iloc[0]}" in asked


def test_the_search_and_the_parent_weights_are_named(project) -> None:
    artifacts = project.settings.artifacts
    (artifacts / "search").mkdir()
    (artifacts / "search" / "best.yaml").write_text("architecture: unimodal\ncandidate: 7\nspec: {}\n")
    jobs = json.loads((artifacts / "jobs.json").read_text())
    for job in jobs:
        job |= {"weights": "imagenet", "weights_sha256": "a" * 64}
    (artifacts / "jobs.json").write_text(json.dumps(jobs))
    found = describe_lineage(project.tracking, project.register(), project.root)
    assert (found["search"]["architecture"], found["search"]["candidate"]) == ("unimodal", 7)
    assert found["parent_weights"] == {"name": "imagenet", "sha256": "a" * 64}
    text = "\n".join(format_lineage(found))
    assert "candidate 7" in text and f"imagenet {'a' * 64}" in text
    (artifacts / "search" / "best.yaml").write_text("architecture: unimodal\ncandidate: 7\nspec: {filters: 3}\n")
    assert describe_lineage(project.tracking, project.register(), project.root)["search"] is None


def test_versions_that_saw_a_patient_are_found_when_the_data_is_gone(project) -> None:
    train, test = seen(project)
    shutil.rmtree(project.root / "data")
    shutil.rmtree(project.settings.artifacts)
    patient = train["patient_id"].iloc[0]
    count = int((train["patient_id"] == patient).sum())
    (found,) = find_patient(project.tracking, patient)
    assert (found.trained, dict(found.tested)) == (count, {"stage-1": count, "stage-5": 0})
    assert str(found) == (
        f"osteo-unimodal-mri version 1 @challenger: trained on ({count} images); tested on in stage-1 ({count} images)"
    )
    patient = test["patient_id"].iloc[0]
    (found,) = find_patient(project.tracking, patient)
    assert found.trained == 0 and found.tested["stage-5"] == (test["patient_id"] == patient).sum() > 0
    assert found.saw and found.as_dict()["saw"] is True


def test_every_version_of_the_same_weights_says_what_it_saw(project) -> None:
    train, _ = seen(project)
    project.register(resamples=500)
    found = find_patient(project.tracking, train["patient_id"].iloc[0])
    assert [(each.version, each.aliases) for each in found] == [(2, ("challenger",)), (1, ())]
    assert found[0].trained == found[1].trained > 0 and found[0].tested == found[1].tested
    saw = find_data(project.tracking, project.root, read_data_digest(project.root), "data")[1]
    assert [each.saw for each in saw] == [True, True]


def test_patients_of_another_modality_and_strangers_were_not_seen(project) -> None:
    for patient in ("ct000", "nobody"):
        (found,) = find_patient(project.tracking, patient)
        assert not found.saw and not found.unknown
        assert str(found) == "osteo-unimodal-mri version 1 @challenger: not"


def test_every_patient_of_the_table_is_told_apart(project) -> None:
    train, test = seen(project)
    exposure = read_data_usage(project.tracking, project.version)
    assert exposure.trained == train["patient_id"].value_counts().to_dict()
    assert exposure.tested["stage-5"] == test["patient_id"].value_counts().to_dict()
    assert set(exposure.tested["stage-1"]) == set(train["patient_id"])


def test_a_version_that_cannot_say_it_is_not_passed_over(project) -> None:
    splits = project.files / "evidence" / "splits" / "splits.csv"
    table = pd.read_csv(splits, dtype=str)
    table.to_csv(splits, index=False, lineterminator="\r\n")
    (found,) = find_patient(project.tracking, "mri000")
    assert found.unknown == "evidence/splits/splits.csv is changed"
    assert str(found).endswith("not known: evidence/splits/splits.csv is changed")
    (found,) = find_data(project.tracking, project.root, read_data_digest(project.root), "data")[1]
    assert found.unknown.startswith("it was made from this revision, and ")
    with pytest.raises(StaleDataError, match="splits"):
        read_data_usage(project.tracking, project.version)


def test_versions_of_a_data_revision_are_found(project) -> None:
    train, test = seen(project)
    digest = read_data_digest(project.root)
    for revision in (digest, digest.removesuffix(".dir"), "HEAD"):
        told, (found,) = find_data(project.tracking, project.root, revision, "data")
        assert told == digest
        assert (found.trained, found.tested["stage-5"]) == (len(train), len(test))


def test_a_later_revision_was_seen_by_none(project) -> None:
    other = "0" * 32 + ".dir"
    text = (project.root / "data.dvc").read_text()
    (project.root / "data.dvc").write_text(text.replace(read_data_digest(project.root), other))
    told, (found,) = find_data(project.tracking, project.root, other, "data")
    assert told == other and not found.saw and str(found).endswith(": not")
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "other"]
    subprocess.run(commit, cwd=project.root, check=True)
    assert find_data(project.tracking, project.root, "HEAD~1", "data")[1][0].saw
    (project.root / "data.dvc").unlink()
    assert find_data(project.tracking, project.root, "0" * 32, "data")[0] == other  # git remembers it


@pytest.mark.parametrize("revision", ["f" * 32, "f" * 40, "no-such-branch", "--help", ""])
def test_an_unknown_revision_is_an_error(project, revision: str) -> None:
    with pytest.raises(InputError, match=r"--data: no revision .* of the data; allowed: the md5 in data\.dvc"):
        find_data(project.tracking, project.root, revision, "data")
