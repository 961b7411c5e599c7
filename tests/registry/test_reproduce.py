"""A version is built again on a real local Ray cluster, equal to the bit or told by how much not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save

from osteo_models.core.errors import StaleDataError
from osteo_models.data.tables import read_frame
from osteo_models.registry import reproduce
from osteo_models.registry.reproduce import reproduce_version
from osteo_models.training.job_data import as_arrays, load_tables, make_predictions, select_rows
from osteo_models.training.outputs import read_job
from osteo_models.training.trial import TrialSettings
from tests.training.small_fits import train_fold

# Ray leaves a socket and a log file open when it shuts down.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def change_images(project) -> None:
    path = project.settings.artifacts / "cohort" / "images.npy"
    pixels = np.load(path)
    pixels[:, 0, 0] ^= 1
    np.save(path, pixels)


def train_here(job, tables, _settings, place, *_):
    """The same training in this process: a second cluster would take longer to start than the rest of these tests."""
    rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
    return [train_fold(TrialSettings(rows, place, 1, 0), job, as_arrays(tables), fold) for fold in rows]


def test_a_version_is_reproduced_to_the_bit(project) -> None:
    epochs: list[tuple[int, int]] = []
    found = reproduce_version(
        project.tracking, project.settings, project.version, on_epoch=lambda done, total: epochs.append((done, total))
    )
    assert found.equal and (found.differences, found.notes) == ((), ())
    assert (found.tensors_differing, found.weights_difference, found.scores_difference) == (0, 0.0, 0.0)
    assert found.tensors > 10 and epochs == [(1, 1)]
    assert {"balanced_accuracy", "roc_auc"} <= set(found.metrics)
    assert all(before == after for before, after in found.metrics.values())
    assert found.as_lines()[-1] == "osteo-unimodal-mri version 1 is reproduced to the bit"
    assert not list(project.settings.state.glob("reproduce-*"))


def test_from_other_images_it_is_said_by_how_much_not(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_models.registry.reproduce._train", train_here)
    assert reproduce_version(project.tracking, project.settings, project.version).equal
    change_images(project)
    found = reproduce_version(project.tracking, project.settings, project.version, anyway=True)
    assert not found.equal and 0 < found.tensors_differing <= found.tensors
    assert found.weights_difference > 0 and 0 < found.scores_difference < 1
    (told,) = found.differences
    assert told.startswith("images: ") and " recorded, " in told
    lines = found.as_lines()
    assert lines[0] == f"differs from the record: {told}"
    assert f"{found.tensors_differing} of {found.tensors} tensors differ, by at most " in lines[1]
    assert lines[-1] == "osteo-unimodal-mri version 1 is not reproduced to the bit"


def test_what_differs_is_said_at_once_and_nothing_is_trained(project) -> None:
    change_images(project)
    with pytest.raises(StaleDataError) as error:
        reproduce_version(project.tracking, project.settings, project.version)
    text = str(error.value)
    assert text.startswith("osteo-unimodal-mri version 1: not what it was made from: images: ")
    assert "folds: " not in text and "version of the code" not in text
    assert text.endswith("(`osteo lineage` names them), or give --anyway")
    assert not list(project.settings.state.glob("reproduce-*"))


def test_another_revision_of_the_data_with_the_same_images_is_a_note(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_models.registry.reproduce._train", train_here)
    splits = project.settings.artifacts / "splits" / "splits.csv"
    table = read_frame(splits)
    of_the_image_protocol = table["fold_image"].where(table["fold_image"].isna(), 0)
    table.assign(age_years=55, fold_image=of_the_image_protocol).to_csv(splits, index=False)
    (project.root / "data" / "clinical.csv").write_text("another")
    (project.root / "data.dvc").unlink()
    found = reproduce_version(project.tracking, project.settings, project.version)
    assert found.equal and found.differences == ()
    assert [note.partition(": ")[0] for note in found.notes] == ["data.dvc", "the files in data"]


def test_other_code_is_said(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_models.training.fit.VERSION", 99)
    with pytest.raises(StaleDataError, match=r"version of the code `training`: \d+ recorded, 99 here"):
        reproduce_version(project.tracking, project.settings, project.version)


def test_an_ensemble_is_the_job_of_its_folds(project) -> None:
    """Its record is that of the network, with the job whose folds are its members."""
    content = json.loads((project.settings.artifacts / "models" / "unimodal-mri" / "model.json").read_text())
    folded = replace(read_job(content), stage="stage-1", validation="folds", folds=2)
    folded = replace(folded, inputs=load_tables(project.settings.artifacts).digest_inputs(folded))
    assert folded == project.jobs[0]
    assert read_job(content | {"key": folded.key, "job": dataclasses.asdict(folded), "members": 2}) == folded
    with pytest.raises(StaleDataError, match=r"model\.json: its job has key"):
        read_job(content | {"key": folded.key})


def test_an_ensemble_is_built_again_member_by_member(project, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, job = load_tables(project.settings.artifacts), project.jobs[0]
    record = dataclasses.replace(reproduce.read_record(project.tracking, project.version), job=job)
    results = train_here(job, tables, None, tmp_path)
    members = reproduce._collect_weights(job, results, record, project.settings, tmp_path)
    scores = [(item.fold, select_rows(job, item.fold, tables).test, item.scores) for item in results]
    record = dataclasses.replace(record, weights=save(members), predictions=make_predictions(job, scores, tables))
    monkeypatch.setattr(reproduce, "read_record", lambda *_: record)
    monkeypatch.setattr(reproduce, "_train", train_here)
    found = reproduce_version(project.tracking, project.settings, project.version)
    assert found.equal and found.tested_on == "the folds"
    assert {name.partition(".")[0] for name in members} == {"members"} and found.tensors == len(members)
    assert {name.split(".")[1] for name in members} == {"0", "1"}


def test_the_recorded_job_is_the_one_that_was_trained(project) -> None:
    content = json.loads((project.settings.artifacts / "models" / "unimodal-mri" / "model.json").read_text())
    assert read_job(content) == project.jobs[1]
    with pytest.raises(StaleDataError, match=r"model\.json: no job of this release; train it again"):
        read_job({"key": content["key"]})
    with pytest.raises(StaleDataError, match=r"model\.json: no job of this release"):
        read_job(content | {"job": {"stage": "stage-5"}})
    changed = content | {"job": content["job"] | {"seed": 7}}
    with pytest.raises(StaleDataError, match=rf"model\.json: its job has key .*; allowed: {content['key']}"):
        read_job(changed)


def test_artifacts_that_are_gone_are_said(project) -> None:
    shutil.rmtree(project.settings.artifacts / "splits")
    with pytest.raises(StaleDataError, match=r"splits\.csv: file not found; make it with `dvc repro splits`"):
        reproduce_version(project.tracking, project.settings, project.version)
