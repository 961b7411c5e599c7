"""What a version keeps is proven by hashes."""

from __future__ import annotations

import hashlib
import json

import pytest

from osteo_models.errors import StaleDataError, WeightsError
from osteo_models.registry.lookup import get_version
from osteo_models.registry.manifest import hash_files, local_path, read_kept, read_manifest, write_manifest


def test_a_manifest_lists_every_file_but_itself(tmp_path) -> None:
    for name in ("a.txt", "b/c.txt", "b/__pycache__/c.pyc", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = hash_files(tmp_path)
    names = ("a.txt", "b/c.txt", "b/__pycache__/c.pyc")  # bytecode too: a check must see it
    assert files == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    digest = write_manifest(tmp_path, files)
    assert read_manifest(tmp_path / "manifest.json", digest, "v") == files
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"sha256": files}


def test_another_manifest_is_refused(tmp_path) -> None:
    digest = write_manifest(tmp_path, {"a": "0"})
    with pytest.raises(StaleDataError, match=r"v: keeps no manifest; register it again with `dvc repro -f register`"):
        read_manifest(tmp_path / "manifest.json", "", "v")
    with pytest.raises(StaleDataError, match=r"v: manifest\.json cannot be read \(No such file"):
        read_manifest(tmp_path / "no" / "manifest.json", digest, "v")
    (tmp_path / "manifest.json").write_text('{"sha256": {}}')
    with pytest.raises(StaleDataError, match=r"v: manifest\.json was changed after it was registered; restore"):
        read_manifest(tmp_path / "manifest.json", digest, "v")


def test_a_version_keeps_where_it_comes_from(project) -> None:
    names = ("selection.json", "params.yaml", "data.dvc", "requirements.lock", "origin.json")
    kept = {name: read_kept(project.tracking, project.version, f"record/{name}") for name in names}
    tables = sorted((project.settings.artifacts / "splits").glob("*.csv"))
    assert [path.name for path in tables] == ["pairs.csv", "splits.csv"]
    for path in tables:
        assert read_kept(project.tracking, project.version, f"evidence/splits/{path.name}") == path.read_bytes()
    assert kept["data.dvc"] == (project.root / "data.dvc").read_bytes()
    assert b"batch_norm_momentum" in kept["params.yaml"]
    assert json.loads(kept["selection.json"]) == {"mri_control": [{"rule": "all", "left": 12}]}


def test_what_is_not_kept_or_changed_is_not_read(project) -> None:
    with pytest.raises(StaleDataError, match=r"models:/osteo-unimodal-mri/1: keeps no record/x; register it again"):
        read_kept(project.tracking, project.version, "record/x")
    (project.files / "record" / "data.dvc").write_text("outs: []")
    with pytest.raises(StaleDataError, match=r"record/data\.dvc was changed after it was registered"):
        read_kept(project.tracking, project.version, "record/data.dvc")
    (project.files / "record" / "data.dvc").unlink()
    with pytest.raises(StaleDataError, match=r"record/data\.dvc cannot be read"):
        read_kept(project.tracking, project.version, "record/data.dvc")


def test_what_something_else_registered_keeps_nothing_of_ours(project) -> None:
    client = project.tracking.client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(project.root))
    with pytest.raises(WeightsError, match=r"models:/theirs/1: something else registered this version"):
        read_kept(project.tracking, get_version(project.tracking, "theirs"), "record/data.dvc")


def test_only_files_lie_on_this_machine(tmp_path) -> None:
    assert local_path((tmp_path / "a b").as_uri()) == tmp_path / "a b"
    assert local_path("s3://bucket/a") is None
    assert local_path("mlflow-artifacts:/0") is None
