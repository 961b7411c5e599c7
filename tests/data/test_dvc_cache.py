import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from osteo_models.core.errors import InputError, OsteoError, StoreError
from osteo_models.data.earlier_revisions import load_revision
from osteo_models.data.revisions import compare_folder, find_cache, find_damage, read_data_digest, read_listing


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A real DVC repository without git, whose cache lies elsewhere."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("data/b/2.bin", "data/a.csv"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = ../c\n")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=root, check=True, capture_output=True)
    return root


def test_the_cache_is_where_dvc_says(repository, tmp_path):
    assert find_cache(repository).samefile(repository / "c")
    assert find_cache(tmp_path) is None
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("nonsense")
    with pytest.raises(OsteoError, match="DVC cannot be used"):
        find_cache(tmp_path)


def write_config(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[cache]\n    dir = {value}\n")


@pytest.fixture
def levels(tmp_path, monkeypatch):
    """A DVC repository with a project in a subfolder, and the configuration file of each of DVC's levels."""
    root = tmp_path / "repository"
    (root / "projects" / "lumbar").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    return root


LEVELS = {"system": "../system/config", "global": "../global/config", "local": ".dvc/config.local"}


@pytest.mark.parametrize("folder", [".", "projects/lumbar"])
@pytest.mark.parametrize(
    ("level", "value", "expected"),
    [
        (None, None, ".dvc/cache"),
        ("local", "../mine", "mine"),  # relative to the file that holds it
        ("local", "../../shared", "../shared"),
        ("global", "mine", "../global/mine"),
        ("system", "mine", "../system/mine"),
        ("local", "~/mine", "../home/mine"),
        ("local", "/mnt/share", "/mnt/share"),
    ],
)
def test_the_cache_is_relative_to_the_file_that_names_it(levels, monkeypatch, folder, level, value, expected):
    monkeypatch.setenv("HOME", str(levels.parent / "home"))
    if level:
        write_config(levels / LEVELS[level], value)
    for place in (levels, levels / "projects", levels.parent):  # wherever the command runs
        monkeypatch.chdir(place)
        assert find_cache(levels / folder) == Path(os.path.normpath(levels / expected))
        assert find_cache(Path(os.path.relpath(levels / folder))) == Path(os.path.normpath(levels / expected))


def test_the_nearest_level_counts_and_a_folder_without_dvc_has_no_cache(levels, tmp_path):
    for level in ("system", "global", "local"):
        write_config(levels / LEVELS[level], f"of-{level}")
        assert find_cache(levels).name == f"of-{level}"
    assert find_cache(tmp_path) is None  # though a cache is named for all repositories of the machine


def test_what_dvc_itself_writes_is_found(levels, monkeypatch):
    """`dvc cache dir` takes a path relative to the current folder, `dvc config` one relative to it as well."""
    for command, expected in (
        (["cache", "dir", "../a"], "projects/a"),
        (["config", "cache.dir", "../b"], "projects/b"),
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=levels / "projects" / "lumbar", check=True)
        assert find_cache(levels / "projects" / "lumbar") == levels / expected


def test_a_remote_in_the_place_of_the_cache(levels):
    config = "[core]\n    no_scm = true\n[cache]\n    local = store\n['remote \"store\"']\n    url = ../../store\n"
    (levels / ".dvc" / "config").write_text(config)
    assert find_cache(levels) == levels.parent / "store"


def test_a_revision_is_read_from_the_repository_above(levels):
    project = levels / "projects" / "lumbar"
    (project / "data").mkdir()
    (project / "data" / "clinical.csv").write_text("patient_id\n")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=project, check=True, capture_output=True)
    assert load_revision(project, "data").read("clinical.csv") == b"patient_id\n"
    stray = levels.parent / "stray"
    stray.mkdir()
    (stray / "data.dvc").write_bytes((project / "data.dvc").read_bytes())
    with pytest.raises(InputError, match="not under DVC; run `dvc init`"):
        load_revision(stray, "data")


def test_the_list_of_a_folder_is_dvcs_own(repository):
    digest = read_data_digest(repository)
    listing = read_listing(repository / "c", digest)
    assert list(listing) == ["a.csv", "b/2.bin"]
    assert list(compare_folder(repository / "data", listing)) == []
    assert read_listing(repository / "c", "0" * 32 + ".dir") is None
    changed = {"a.csv": "0" * 32, "z.csv": "0" * 32}
    assert list(compare_folder(repository / "data", changed)) == [
        ("a.csv", "changed"),
        ("b/2.bin", "not recorded"),
        ("z.csv", "missing"),
    ]


def test_damaged_objects_are_named(repository):
    assert list(find_damage(repository / "c")) == []
    digest = read_data_digest(repository)
    path = repository / "c" / "files" / "md5" / digest[:2] / digest[2:]
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(json.dumps(json.loads(content)).replace("a.csv", "b.csv").encode())
    (path.parent / f"{digest[2:]}.tmp").write_text("DVC's own, half-written")
    assert list(find_damage(repository / "c")) == [digest]
    assert read_listing(repository / "c", digest) is None
    path.write_bytes(content)


def test_a_file_that_cannot_be_read_is_no_damage(tmp_path) -> None:
    path = tmp_path / "files" / "md5" / "ab" / ("c" * 30)
    path.parent.mkdir(parents=True)
    path.symlink_to(path.name)  # a loop, which no user can read
    with pytest.raises(StoreError, match="a file cannot be read"):
        list(find_damage(tmp_path))
