"""requirements.lock and ray.lock, installed together in the image, ask for one version of each package."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

LOCKS = (ROOT / "requirements.lock", ROOT / "infra" / "ray.lock")


def read_versions(paths: tuple[Path, ...]) -> dict[str, set[str]]:
    """The versions by package; a line that names none, or a range, stands as it is."""
    versions = defaultdict(set)
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                required = Requirement(line)
                versions[canonicalize_name(required.name)].add(str(required.specifier))
    return versions


def test_no_package_is_asked_for_at_two_versions() -> None:
    versions = read_versions(LOCKS)
    assert len(versions) > 250
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_each_is_pinned() -> None:
    found = [(name, each) for name, versions in read_versions(LOCKS).items() for each in versions]
    assert len(found) > 250
    assert [pair for pair in found if not pair[1].startswith("==") or "*" in pair[1] or "," in pair[1]] == []


def test_two_versions_are_found(tmp_path: Path) -> None:
    first, second = tmp_path / "a.lock", tmp_path / "b.lock"
    first.write_text("smart_open==9.0.2\nclick==8.5.1\n", encoding="utf-8")
    second.write_text("# why\nSmart-Open==9.0.3\nclick==8.5.1\n", encoding="utf-8")
    assert {len(found) for found in read_versions((first, second)).values()} == {1, 2}
