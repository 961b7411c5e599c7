"""The whole job on an imported data set: nothing that named a person in the export is anywhere in its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pydicom
import pytest
import yaml

CANARY = "CANARYXQZ"
NAMING = ("PatientName", "InstitutionName", "ReferringPhysicianName", "StudyDescription", "AccessionNumber")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def mark(folder: Path) -> None:
    """Make an export of a synthetic cohort: marks in headers, file names and the identifiers of the people."""
    table = pd.read_csv(folder / "clinical.csv", dtype=str, keep_default_na=False)
    table.assign(patient_id=CANARY + "-" + table["patient_id"], name=CANARY).to_csv(
        folder / "clinical.csv", index=False
    )
    for number, path in enumerate(sorted((folder / "dicom").rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = f"{CANARY}-{dataset.PatientID}"
        dataset.SeriesInstanceUID = f"1.2.{number + 7_777_000}"
        for keyword in NAMING:
            setattr(dataset, keyword, CANARY)
        dataset.private_block(0x0099, CANARY, create=True).add_new(1, "LO", CANARY)
        dataset.save_as(path.with_name(f"{CANARY}-{number}.dcm"))
        path.unlink()


def leave_out_synthetic(project) -> str:
    """Do what README says of a data set of one's own; without it, each way to begin says so at once."""
    stage = [sys.executable, "-m", "pipelines.cohort"]
    started = subprocess.run(stage, cwd=project.root, env=project.environment, capture_output=True, text=True)
    said = [project.osteo("demo", code=2), project.osteo("search", code=2), started.stdout + started.stderr]
    assert started.returncode == 2
    fault = "`data.synthetic` is set, but data was imported: it has intake.csv"
    remedy = f"{fault}; take `data.synthetic` out of params.yaml"
    assert all(remedy in each and "Starting" not in each for each in said), said
    params = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    del params["data"]["synthetic"]
    (project.root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return "".join(said)


def test_no_mark_comes_through_the_whole_job(project, tmp_path):
    export = tmp_path / "export"
    project.osteo("data", "synth", "--scale", "small", "--out", str(export))
    mark(export)
    tables = ("--clinical", str(export / "clinical.csv"), "--key", str(tmp_path / "private" / "key"))
    said = project.osteo("data", "import", str(export / "dicom"), *tables)
    assert "0 refused" in said, said
    said += leave_out_synthetic(project)
    job = project.start("demo")
    said += job.communicate(timeout=2000)[0]
    assert job.returncode == 0, said
    places = {"data", "artifacts", ".osteo", ".dvc"}
    looked: set[str] = set()
    for path in project.root.rglob("*"):
        name = path.relative_to(project.root).as_posix()
        assert CANARY not in name
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), name
            looked.add(name)
    assert places <= {name.split("/")[0] for name in looked}
    assert {"mlflow.db", "artifacts/report/index.html"} <= looked
    assert any("prefect" in name and name.endswith(".db") for name in looked), sorted(looked)[:50]
    assert CANARY not in said.replace(str(export), "")
