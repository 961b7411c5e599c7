"""What a version keeps is proven by hashes."""

from __future__ import annotations

import hashlib
import json

import pytest

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.registry.manifest import Damage, find_damage, hash_files, write_manifest
from osteo_models.registry.package import local_path, read_stored_file
from osteo_models.registry.versions import get_version


def test_a_manifest_lists_every_file_but_itself(tmp_path) -> None:
    for name in ("a.txt", "b/c.txt", "b/__pycache__/c.pyc", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = hash_files(tmp_path)
    names = ("a.txt", "b/c.txt", "b/__pycache__/c.pyc")  # bytecode too: a check must see it
    assert files == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    digest = write_manifest(tmp_path, files)
    assert find_damage(tmp_path, digest) == []
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"sha256": files}


def test_another_manifest_is_refused(tmp_path) -> None:
    (tmp_path / "a").write_text("a")
    digest = write_manifest(tmp_path, hash_files(tmp_path))
    assert find_damage(tmp_path, "") == [Damage("manifest.json", "is not the one that was registered")]
    (tmp_path / "manifest.json").write_text('{"sha256": {}}')
    assert find_damage(tmp_path, digest) == [Damage("manifest.json", "is not the one that was registered")]
    for text in ("", "{", "[]", '{"sha256": []}', '{"sha": {}}'):
        (tmp_path / "manifest.json").write_text(text)
        assert find_damage(tmp_path, None) == [Damage("manifest.json", "is damaged")]
    (tmp_path / "manifest.json").unlink()
    assert find_damage(tmp_path, digest) == [Damage("manifest.json", "is missing")]


def test_a_version_keeps_where_it_comes_from(project) -> None:
    names = ("selection.json", "params.yaml", "data.dvc", "requirements.lock", "origin.json")
    kept = {name: read_stored_file(project.tracking, project.version, f"record/{name}") for name in names}
    tables = sorted((project.settings.artifacts / "splits").glob("*.csv"))
    assert [path.name for path in tables] == ["pairs.csv", "splits.csv"]
    for path in tables:
        assert read_stored_file(project.tracking, project.version, f"evidence/splits/{path.name}") == path.read_bytes()
    assert kept["data.dvc"] == (project.root / "data.dvc").read_bytes()
    assert b"batch_norm_momentum" in kept["params.yaml"]
    assert json.loads(kept["selection.json"]) == {"mri_control": [{"rule": "all", "left": 12}]}


def test_what_is_not_kept_or_changed_is_not_read(project) -> None:
    with pytest.raises(StaleDataError, match=r"models:/osteo-unimodal-mri/1: keeps no record/x; register it again"):
        read_stored_file(project.tracking, project.version, "record/x")
    (project.files / "record" / "data.dvc").write_text("outs: []")
    with pytest.raises(StaleDataError, match=r"record/data\.dvc is changed; restore"):
        read_stored_file(project.tracking, project.version, "record/data.dvc")
    (project.files / "record" / "data.dvc").unlink()
    with pytest.raises(StaleDataError, match=r"record/data\.dvc is missing"):
        read_stored_file(project.tracking, project.version, "record/data.dvc")


def test_what_something_else_registered_keeps_nothing_of_ours(project) -> None:
    client = project.tracking.client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(project.root))
    with pytest.raises(
        WeightsError, match=r"models:/theirs/1: not registered by this project, so nothing of it is loaded"
    ):
        read_stored_file(project.tracking, get_version(project.tracking, "theirs"), "record/data.dvc")


def test_only_files_lie_on_this_machine(tmp_path) -> None:
    assert local_path((tmp_path / "a b").as_uri()) == tmp_path / "a b"
    assert local_path("s3://bucket/a") is None
    assert local_path("mlflow-artifacts:/0") is None
