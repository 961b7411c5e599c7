"""`make docs`: the site is built without a warning, has every page, and loads nothing from other hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import osteo_models
from osteo_models.cli.main import main
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def read(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_no_page_loads_anything_from_another_host(site):
    loaded = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=["']?(?:https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 12
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert not any(re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet) for sheet in sheets)
    # The theme's script would load these two programs for such elements.
    assert not any('class="mermaid"' in page.read_text(encoding="utf-8") for page in pages)


def test_the_reference_of_the_command_line_has_every_command(site):
    page = read(site, "reference/cli.html")
    assert all(f'id="osteo-{name}"' in page for name in main.commands)
    assert "Sentinel" not in page


def test_the_reference_of_python_has_every_exported_name(site):
    page = read(site, "reference/python.html")
    assert all(f".{name}" in page for name in osteo_models.__all__)


def test_the_other_references_come_from_the_program(site):
    page = read(site, "reference/names.html")
    assert all(name in page for name in ("balanced_accuracy", "osteo.job", "code_pinned", "bound"))
    read_here = re.findall(r'"(OSTEO_[A-Z_]+)"', (ROOT / "osteo_models/core/settings.py").read_text(encoding="utf-8"))
    assert [name for name in read_here if name not in page and name != "OSTEO_ERROR_FILE"] == []
    assert all(f'id="{key}"' in read(site, "reference/params.html") for key in ("stages", "gate", "search"))
    assert "load_version" in read(site, "tutorial.html")
