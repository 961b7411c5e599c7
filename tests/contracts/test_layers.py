"""The rules that import-linter does not see."""

import ast
import subprocess
import sys
from collections import Counter

from tests.conftest import ROOT

LIBRARY = sorted((ROOT / "osteo_models").rglob("*.py"))
FILES = [*LIBRARY, *sorted((ROOT / "pipelines").rglob("*.py"))]
# Beside the settings, those who hand an environment on to a child, or set a switch of the tool that they wrap.
ENVIRONMENT_READERS = {
    "core/settings.py",
    "data/revisions.py",
    "registry/store.py",
    "ops/servers/cluster_profile.py",
    "ops/servers/launch.py",
    "ops/doctor/server_checks.py",
    "ops/doctor/store_checks.py",
    "ops/servers/local_servers.py",
    "training/ray_cluster.py",
}


def test_no_file_is_longer_than_300_lines_or_named_after_nothing():
    vague = {"utils", "util", "helpers", "common", "base", "manager", "misc"}
    assert [str(path) for path in FILES if path.stem in vague] == []
    assert [str(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_file_names_are_unique():
    names = Counter(path.name for path in LIBRARY if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_only_settings_read_the_environment():
    readers = set()
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                readers.add(str(path.relative_to(ROOT / "osteo_models")))
    assert {"core/settings.py"} <= readers <= ENVIRONMENT_READERS


def test_importing_the_library_makes_nothing(tmp_path):
    names = (
        "cli.main",
        "core.settings",
        "core.params",
        "ops.servers.cluster_profile",
        "data.selection",
        "training.fit",
        "explain.gallery",
        "registry.versions",
        "report.build",
    )
    code = "\n".join(f"import osteo_models.{name}" for name in names)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
