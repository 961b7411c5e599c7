import json
import subprocess
import sys

import pytest

from osteo_models.data.cache import compare_folder, find_cache, find_damage, read_listing
from osteo_models.data.revisions import read_data_digest
from osteo_models.errors import OsteoError


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
    with pytest.raises(OsteoError, match="`dvc cache dir` failed"):
        find_cache(tmp_path)


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
