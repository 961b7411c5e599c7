"""Revisions of a data set in a real git and DVC repository."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from osteo_models.data.differences import compare_revisions
from osteo_models.data.history import load_revision
from osteo_models.data.withdrawal import read_withdrawn, withdraw_patient
from osteo_models.errors import InputError, StoreError
from osteo_models.report.differences import as_html, as_lines
from tests.data.intake_files import as_bytes, clinical_table, make_dicom

PEOPLE = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")


def splits_of(people, **changes) -> pd.DataFrame:
    rows = [
        {"image_id": f"{name}-mri-0", "patient_id": name, "modality": "mri", "target": 1, "age_years": 50 + number,
         "sex": "F", "holdout": 0, "patient_test": 0, "fold_image": number % 2, "fold_patient": number % 2}
        for number, name in enumerate(people)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    for (name, column), value in changes.get("cells", {}).items():
        table.loc[table["patient_id"] == name, column] = value
    return table


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Two revisions: `one`, and the workspace, in which much has changed."""
    root = tmp_path_factory.mktemp("revisions")

    def run(*command):
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    def dvc(*arguments):
        run(sys.executable, "-m", "dvc", *arguments)

    def record(splits):
        (root / "splits.csv").write_text(splits.to_csv(index=False))
        dvc("add", "-q", "data", "splits.csv")
        digest = yaml.safe_load((root / "splits.csv.dvc").read_text())["outs"][0]["md5"]
        lock = {"stages": {"splits": {"outs": [{"path": "artifacts/splits/splits.csv", "md5": digest}]}}}
        (root / "dvc.lock").write_text(yaml.safe_dump(lock))

    run("git", "init", "-q")
    dvc("init", "-q")
    dvc("config", "core.analytics", "false")
    for number, name in enumerate(PEOPLE[:2]):
        folder = root / "data" / "dicom" / name
        folder.mkdir(parents=True)
        for image in range(2):
            (folder / f"mri-{image}.dcm").write_bytes(as_bytes(make_dicom(seed=10 * number + image, patient=name)))
    clinical_table(*PEOPLE[:2]).to_csv(root / "data" / "clinical.csv", index=False)
    record(splits_of(PEOPLE[:2]))
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")
    run("git", "tag", "one")
    images = root / "data" / "dicom"
    shutil.copytree(images / PEOPLE[0], images / PEOPLE[2])
    (images / PEOPLE[0] / "mri-0.dcm").write_bytes(as_bytes(make_dicom(seed=0, patient=PEOPLE[0], StudyID="7")))
    (images / PEOPLE[0] / "mri-1.dcm").write_bytes(as_bytes(make_dicom(seed=99, patient=PEOPLE[0])))
    (images / PEOPLE[1] / "mri-1.dcm").unlink()
    cells = {(PEOPLE[0], "holdout"): 1, (PEOPLE[0], "target"): 0, (PEOPLE[1], "fold_patient"): 0}
    record(splits_of(PEOPLE, cells=cells))
    return root


def test_a_difference_says_what_a_team_asks(repository):
    found = compare_revisions(load_revision(repository, "data", "one"), load_revision(repository, "data"))
    assert found.patients_added == [PEOPLE[2]] and found.patients_removed == []
    assert found.images_added == [f"dicom/{PEOPLE[2]}/mri-{number}.dcm" for number in range(2)]
    assert found.images_removed == [f"dicom/{PEOPLE[1]}/mri-1.dcm"]
    assert found.header_only == [f"dicom/{PEOPLE[0]}/mri-0.dcm"]
    assert found.pixels_changed == [f"dicom/{PEOPLE[0]}/mri-1.dcm"]
    assert found.labels_flipped == [f"{PEOPLE[0]} (mri): osteoporosis -> control"]
    assert found.into_holdout == [f"{PEOPLE[0]}-mri-0"]
    assert found.moved["fold_patient"] == [f"{PEOPLE[1]}-mri-0"] and found.moved["fold_image"] == []
    assert [row["patients"] for row in found.shift] == [2, 3]
    lines = "\n".join(as_lines(found, ["osteo-unimodal-mri version 1 @champion"]))
    assert "patients added: 1 (cccccccccccc)" in lines
    assert "made from other data: osteo-unimodal-mri version 1 @champion" in lines
    page = as_html(found, ["<script>"])
    assert "<script>" not in page and "&lt;script&gt;" in page and "http" not in page
    assert json.loads(json.dumps(found.as_dict()))["digest_before"] != found.digest_after


def test_the_same_revision_has_no_difference(repository):
    one = load_revision(repository, "data", "one")
    found = compare_revisions(one, one)
    assert found.is_empty and "the same data set" in as_lines(found, [])


def test_a_revision_that_is_not_there_is_told(repository, tmp_path):
    with pytest.raises(InputError, match=r"git has no data\.dvc in the revision 'nowhere'.*name a commit"):
        load_revision(repository, "data", "nowhere")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository), str(clone)], check=True)
    with pytest.raises(StoreError, match="not in the DVC cache; get it with `dvc fetch --all-commits`"):
        load_revision(clone, "data", "one")


def test_a_withdrawn_person_leaves_nothing_and_cannot_come_back(tmp_path):
    data = tmp_path / "data"
    for name in PEOPLE[:2]:
        (data / "dicom" / name).mkdir(parents=True)
        (data / "dicom" / name / "mri-0.dcm").write_bytes(b"x")
    clinical_table(*PEOPLE[:2]).to_csv(data / "clinical.csv", index=False)
    (data / "images.csv").write_text(f"path,input\n{PEOPLE[0]}/mri-0.dcm,1\n{PEOPLE[1]}/mri-0.dcm,2\n")
    taken = withdraw_patient(data, PEOPLE[0])
    assert (taken.images, taken.rows) == (1, 2)
    left = {path.name: path.read_text() for path in data.rglob("*.csv") if path.name != "withdrawn.csv"}
    assert not any(PEOPLE[0] in text for text in left.values())
    assert all(PEOPLE[1] in text for text in left.values())
    assert not (data / "dicom" / PEOPLE[0]).exists() and (data / "dicom" / PEOPLE[1]).exists()
    assert read_withdrawn(data) == {PEOPLE[0]}
    for wrong in (PEOPLE[0], "../data", "", "."):
        with pytest.raises(InputError, match="no person"):
            withdraw_patient(data, wrong)
    assert (data / "dicom").exists()
