"""verify, gc, lineage and reproduce as they are typed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.data.tables import read_frame
from osteo_models.ops.dvc_stages import lock_stages

NAME = "osteo-unimodal-mri"


@pytest.fixture
def osteo(project, monkeypatch: pytest.MonkeyPatch):
    """Run `osteo` in the project and give what it printed."""
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_verify_counts_its_findings_and_exits_1(osteo, project) -> None:
    assert osteo("verify") == "0 findings in 1 versions, the data and DVC's cache\n"
    assert osteo("verify", f"{NAME}@challenger") == "0 findings in 1 versions\n"
    path = project.root / "data" / "dicom" / "mri001" / "mri-001.dcm"
    path.chmod(0o644)
    path.write_bytes(b"changed")
    said = osteo("verify", code=1)
    assert said.startswith("data: file 3 of 4 ") and said.endswith(
        "1 findings in 1 versions, the data and DVC's cache\n"
    )
    assert "mri001" in osteo("verify", "--paths", code=1)
    (finding,) = json.loads(osteo("verify", "--json", code=1))
    assert finding["where"] == "data" and "changed" in finding["found"]
    assert osteo("verify", NAME) == "0 findings in 1 versions\n"
    assert "no version 7" in osteo("verify", f"{NAME}/7", code=2)
    (project.files / "record" / "card.md").write_text("better")
    assert f"{NAME} version 1: record/card.md is changed; " in osteo("verify", NAME, code=1)


def test_gc_says_first_and_removes_then(osteo, project) -> None:
    assert osteo("gc") == "0 items, 0.0 MB freed\n"
    scratch = project.settings.state / "reproduce-abc"
    scratch.mkdir()
    (scratch / "clinical.csv").write_text("x" * 100_000)
    assert osteo("gc") == "0 items, 0.0 MB freed\n"  # younger than a day
    said = osteo("gc", "--older-than", "0", "--dry-run")
    assert said == "  half-made reproduce-abc: 0.1 MB\n1 items, 0.1 MB would be freed\n" and scratch.exists()
    with lock_stages(project.settings.state):  # stages that run may begin to use it
        assert "another `osteo` command is at work here" in osteo("gc", "--older-than", "0", code=1)
        assert osteo("gc", "--older-than", "0", "--dry-run") == said and scratch.exists()
    (item,) = json.loads(osteo("gc", "--older-than", "0", "--json"))
    assert item["path"] == str(scratch) and not scratch.exists()
    said = osteo("gc", "--run", project.version.run_id, code=1)
    assert f"{NAME} version 1 needs it: the run of its registration; nothing was deleted" in said


def test_lineage_answers_one_question_at_a_time(osteo, project) -> None:
    table = read_frame(project.settings.artifacts / "splits" / "splits.csv")
    trained = table[(table["modality"] == "mri") & (table["holdout"] == 0)]["patient_id"].iloc[0]
    said = osteo("lineage", f"{NAME}@challenger")
    assert said.startswith(f"{NAME} version 1 @challenger\n  data         md5 ") and trained not in said
    assert trained in osteo("lineage", NAME, "--patients")
    assert json.loads(osteo("lineage", NAME, "--json"))["job"] == project.version.job
    assert "version 1 @challenger: trained on (4 images)" in osteo("lineage", "--patient", trained)
    said = osteo("lineage", "--patient", "nobody")
    assert said == f"  {NAME} version 1 @challenger: not\npatient nobody: none of 1 versions saw it\n"
    (sighting,) = json.loads(osteo("lineage", "--data", "HEAD", "--json"))
    assert sighting["saw"] and sighting["name"] == NAME
    assert "no revision 'nothing' of the data" in osteo("lineage", "--data", "nothing", code=2)
    for question in ([], [NAME, "--patient", "x"], ["--patient", "x", "--data", "HEAD"]):
        assert "one question at a time; allowed: a REFERENCE, --patient or --data" in osteo(
            "lineage", *question, code=2
        )
    (project.files / "evidence" / "splits" / "splits.csv").write_text("")
    assert "patient x: none of 1 versions saw it; 1 cannot say it" in osteo("lineage", "--patient", "x", code=1)


def test_reproduce_stops_where_the_record_says_otherwise(osteo, project) -> None:
    (project.root / "data" / "clinical.csv").chmod(0o644)
    (project.root / "data" / "clinical.csv").write_text("another")
    assert "note: the files in data: " in osteo("reproduce", NAME)  # the images and folds are the same
    path = project.settings.artifacts / "cohort" / "images.npy"
    images = np.load(path)
    np.save(path, 255 - images)
    assert "not what it was made from: images: " in osteo("reproduce", NAME, code=1)
    assert "no version @champion" in osteo("reproduce", f"{NAME}@champion", code=2)
