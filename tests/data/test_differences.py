"""Revisions of a data set in a real git and DVC repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from osteo_models.core.errors import InputError, StoreError
from osteo_models.data.differences import compare_revisions
from osteo_models.data.earlier_revisions import load_revision
from osteo_models.report.data_difference import as_html, as_lines
from tests.data.intake_files import as_bytes, clinical_table, make_dicom

PEOPLE = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd")
FIRST = (PEOPLE[0], PEOPLE[1], PEOPLE[3])
RECORDED = ("data", "splits.csv")
OTHER_PIXELS = np.full((64, 48), 7, np.uint16).tobytes()


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
        dvc("add", "-q", *RECORDED)
        data, digest = (yaml.safe_load((root / f"{name}.dvc").read_text())["outs"][0]["md5"] for name in RECORDED)
        outs = [{"path": "artifacts/splits/splits.csv", "md5": digest}]
        lock = {"stages": {"splits": {"deps": [{"path": "data", "md5": data}], "outs": outs}}}
        (root / "dvc.lock").write_text(yaml.safe_dump(lock))

    run("git", "init", "-q")
    dvc("init", "-q")
    dvc("config", "core.analytics", "false")
    for number, name in enumerate(PEOPLE):
        if name == PEOPLE[2]:
            continue
        folder = root / "data" / "dicom" / name
        folder.mkdir(parents=True)
        for image in range(2):
            (folder / f"mri-{image}.dcm").write_bytes(as_bytes(make_dicom(seed=10 * number + image, patient=name)))
    clinical_table(*FIRST).to_csv(root / "data" / "clinical.csv", index=False)
    record(splits_of(FIRST))
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")
    run("git", "tag", "one")
    images = root / "data" / "dicom"
    (root / "data" / "vertebrae" / PEOPLE[0]).mkdir(parents=True)
    (root / "data" / "vertebrae" / PEOPLE[0] / "mri-0.png").write_bytes(b"a label map")
    shutil.copytree(images / PEOPLE[0], images / PEOPLE[2])
    (images / PEOPLE[0] / "mri-0.dcm").write_bytes(as_bytes(make_dicom(seed=0, patient=PEOPLE[0], StudyID="7")))
    (images / PEOPLE[0] / "mri-1.dcm").write_bytes(as_bytes(make_dicom(seed=99, patient=PEOPLE[0])))
    (images / PEOPLE[1] / "mri-1.dcm").unlink()
    # Named by its content: the same instance with other pixels, and the same pixels with another header.
    (images / PEOPLE[1] / "mri-0.dcm").unlink()
    (images / PEOPLE[1] / "mri-8.dcm").write_bytes(as_bytes(make_dicom(seed=10, PixelData=OTHER_PIXELS)))
    (images / PEOPLE[3] / "mri-0.dcm").unlink()
    (images / PEOPLE[3] / "mri-9.dcm").write_bytes(as_bytes(make_dicom(seed=30, StudyID="7")))
    people = clinical_table(*PEOPLE)
    people.loc[0, ["source", "age_years", "postmenopausal"]] = ["control_candidate", "30", "0"]
    people.loc[3, "t_score_l1"] = "9.5"
    people.to_csv(root / "data" / "clinical.csv", index=False)
    cells = {(PEOPLE[0], "holdout"): 1, (PEOPLE[1], "fold_patient"): 0, (PEOPLE[3], "fold_image"): 0}
    cells[PEOPLE[3], "fold_patient"] = 0
    record(splits_of(PEOPLE, cells=cells))
    return root


def test_a_difference_says_what_a_team_asks(repository, params):
    one = load_revision(repository, "data", "one")
    found = compare_revisions(one, load_revision(repository, "data"), params.cohort)
    first, second, third, fourth = PEOPLE
    assert found.patients_added == [third] and found.patients_removed == []
    assert found.images_added == [f"dicom/{third}/mri-{number}.dcm" for number in range(2)]
    assert found.images_removed == [f"dicom/{second}/mri-1.dcm"]
    assert found.header_only == [f"dicom/{first}/mri-0.dcm", f"dicom/{fourth}/mri-9.dcm"]
    assert found.pixels_changed == [f"dicom/{first}/mri-1.dcm", f"dicom/{second}/mri-8.dcm"]
    assert found.labels_flipped == [
        f"{first} (mri): osteoporosis -> control",
        f"{fourth} (mri): osteoporosis -> not in the study",
    ]
    assert found.label_maps_changed == [f"vertebrae/{first}/mri-0.png"]
    assert found.people_touched == [first, second, fourth]
    assert found.into_holdout == [f"{first}-mri-0"] and found.tables_changed == ["clinical.csv"]
    assert found.moved["fold_patient"] == [f"{second}-mri-0"] and found.moved["fold_image"] == []
    assert [(row["revision"], row["patients"], row["images"]) for row in found.shift] == [
        ("before", 3, 6),
        ("after", 3, 5),
    ]
    assert [row["osteoporosis_share"] for row in found.shift] == [1.0, 0.6667] and found.notes == []
    lines = "\n".join(as_lines(found, ["osteo-unimodal-mri version 1 @champion"]))
    assert f"patients added: 1 ({third})" in lines and "moved to another fold of patients: 1" in lines
    assert "mri: patients 3 -> 3, images 6 -> 5, osteoporosis (%) 100.0 -> 66.7" in lines
    assert "stale: osteo-unimodal-mri version 1 @champion" in lines
    page = as_html(found, ["<script>"])
    assert "<script>" not in page and "&lt;script&gt;" in page and "http" not in page
    assert ">-33.3</td>" in page and "From <strong>one</strong>" in page
    assert json.loads(json.dumps(found.as_dict()))["digest_before"] != found.digest_after


def test_splits_of_another_revision_are_not_compared(repository, params, tmp_path):
    """After `dvc add`, dvc.lock still holds the splits of the data set before."""
    root = tmp_path / "later"
    shutil.copytree(repository, root)
    (root / "data" / "dicom" / PEOPLE[2] / "mri-1.dcm").unlink()
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=root, check=True, capture_output=True)
    found = compare_revisions(load_revision(root, "data", "one"), load_revision(root, "data"), params.cohort)
    assert found.notes == [
        "places in the splits of workspace are not known: run `dvc repro splits` and commit dvc.lock"
    ]
    assert found.moved == {} and found.into_holdout == [] and "moved to" not in as_html(found, [])
    assert len(found.labels_flipped) == 2 and len(found.shift) == 2  # the clinical table says it


def test_the_same_revision_has_no_difference(repository, params):
    one = load_revision(repository, "data", "one")
    found = compare_revisions(one, one, params.cohort)
    assert found.is_empty and "the same data set" in as_lines(found, [])


def test_a_revision_that_is_not_there_is_told(repository, tmp_path):
    with pytest.raises(InputError, match=r"git has no data\.dvc in the revision 'nowhere'.*name a commit"):
        load_revision(repository, "data", "nowhere")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository), str(clone)], check=True)
    with pytest.raises(StoreError, match="not in the DVC cache; get it with `dvc fetch --all-commits`"):
        load_revision(clone, "data", "one")
