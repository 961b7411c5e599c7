"""Every command shown in README and docs is run in a small project, its output compared in kind; so is the tutorial."""

from __future__ import annotations

import re
import shutil
import subprocess

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT
from tests.docs.console import PAGES, find_difference, read_commands
from tests.scenarios.conftest import Project, project

__all__ = ["project"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
PATIENT = "02d35843"  # MRI, not in the hold-out, at both scales of the synthetic cohort
EXPORTED = ("caffae36", "a2f97874")
RUN = {page: [command for command in read_commands(page) if not command.reason] for page in PAGES}


@pytest.fixture(scope="module")
def demo(project: Project) -> Project:
    """The project after `osteo demo`, and an export of images."""
    project.osteo("data", "synth", "--scale", "small")
    project.dvc("add", "--quiet", "data")
    for command in (["add", "-A"], ["commit", "-qm", "data"]):  # the gate requires the code in a commit
        subprocess.run(["git", *command], cwd=project.root, env=project.environment, check=True)
    process = project.start("demo", "--no-servers")
    output, _ = process.communicate(timeout=2400)
    assert process.returncode == 0, output
    make_export(project)
    return project


def make_export(project: Project) -> None:
    """`export/` and `people.csv`: images of two patients as a hospital would export them, and a text file."""
    for patient in EXPORTED:
        shutil.copytree(project.root / "data" / "dicom" / patient, project.root / "export" / patient)
    (project.root / "export" / "notes.txt").write_text("no image", encoding="utf-8")
    table = pd.read_csv(project.root / "data" / "clinical.csv", dtype=str, keep_default_na=False)
    table[table["patient_id"].isin(EXPORTED)].to_csv(project.root / "people.csv", index=False)


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: page.name)
def test_the_commands_of_a_page(page, demo, tmp_path):
    root = tmp_path / "project"  # what a page changes, such as the data set, stays in its copy
    shutil.copytree(demo.root, root, symlinks=True)
    environment = demo.environment | {"OSTEO_KEY_FILE": str(tmp_path / "private" / "key"), "OSTEO_USER": "data team"}
    failures = []
    for command in RUN[page]:
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            output = done.stdout + done.stderr
            failures.append(f"{command.place}: {command.text}: exit code {done.returncode}\n{output}")
        elif command.output and (difference := find_difference(command.output, done.stdout)):
            failures.append(f"{command.place}: {command.text}\n{difference}")
    assert not failures, "\n\n".join(failures)


def test_the_tutorial(demo, monkeypatch):
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, demo.environment[name])
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    stored = [[output["data"].keys() for output in cell.get("outputs", ())] for cell in notebook.cells]
    assert all(set(kinds) == {"text/plain"} for outputs in stored for kinds in outputs)
    resources = {"metadata": {"path": str(demo.root)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    results = [
        [out for out in cell.get("outputs", ()) if out.output_type == "execute_result"] for cell in notebook.cells
    ]
    assert [len(outputs) for outputs in results] == [len(outputs) for outputs in stored]
    assert (demo.root / "comparison.html").is_file()


def test_every_tag_of_a_version_is_described(demo):
    described = set(yaml_names(ROOT / "docs" / "reference" / "tags.yaml"))
    code = "import osteo_models; print(*{tag for version in osteo_models.list_versions() for tag in version.tags})"
    python = shutil.which("python", path=demo.environment["PATH"])
    done = subprocess.run(
        [python, "-c", code], cwd=demo.root, env=demo.environment, capture_output=True, text=True, check=True
    )
    tags = {re.sub(r"^stage_\d+\.(image|patient)\.", "stage_<N>.<protocol>.", tag) for tag in done.stdout.split()}
    assert tags <= described


def yaml_names(path):
    """The keys of a file."""
    return [line.split(":")[0] for line in path.read_text(encoding="utf-8").splitlines()]
