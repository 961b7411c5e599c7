"""`osteo data ...` as a team uses it, in a real git and DVC repository."""

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.data.intake.dataset import Staging
from tests.conftest import ROOT
from tests.data.intake_files import as_bytes, clinical_table, make_dicom


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without data, and an export of three patients beside it."""
    root, export = tmp_path / "project", tmp_path / "export"
    root.mkdir()
    export.mkdir()
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    (root / ".gitignore").write_text(".osteo/\n")
    for number in range(6):
        patient = f"P{number % 3 + 1}"
        (export / f"{patient}-{number}.dcm").write_bytes(as_bytes(make_dicom(seed=number, patient=patient)))
    (export / "notes.txt").write_text("no image")
    clinical_table("P1", "P2", "P3").to_csv(tmp_path / "people.csv", index=False)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("OSTEO_KEY_FILE", str(tmp_path / "private" / "key"))
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return root


def osteo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def commit(root, tag):
    subprocess.run(["git", "add", "-A"], cwd=root, check=True, capture_output=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, "commit", "-qm", tag], cwd=root, check=True, capture_output=True)
    subprocess.run(["git", "tag", tag], cwd=root, check=True)


def test_import_check_withdraw_and_diff(project):
    said = osteo("data", "import", "../export", "--clinical", "../people.csv", "--workers", "1")
    assert "7 files: 6 accepted, 1 refused" in said and "not_an_image: neither DICOM, PNG nor JPEG" in said
    assert "6 images, 6 of them new" in said and "next: `dvc add data`" in said
    assert "nothing that could name a person" in osteo("data", "check")
    again = json.loads(osteo("data", "import", "../export", "--clinical", "../people.csv", "--json"))
    assert (again["images"], again["added"]) == (6, 0)
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], check=True, capture_output=True)
    commit(project, "one")
    patient = sorted(path.name for path in (project / "data" / "dicom").iterdir())[0]
    taken = osteo("data", "withdraw", patient)
    assert f"{patient}: 2 images and 5 table rows taken out" in taken
    assert "Earlier revisions, and outputs of the stages until `dvc repro` has run, still hold the person" in taken
    assert (
        "  dvc gc --workspace            in every clone" in taken
        and "  dvc gc --workspace --cloud    once for" in taken
    )
    found = json.loads(osteo("data", "diff", "one", "--html", "diff.html", "--json"))
    assert found["patients_removed"] == [patient] and len(found["images_removed"]) == 2
    assert "withdrawn.csv" in found["tables_changed"] and found["stale_versions"] == []
    assert patient in (project / "diff.html").read_text()
    assert "patients removed: 1" in osteo("data", "diff", "one")


def test_wrong_input_is_one_line_and_exit_2(project):
    assert "error: ../nowhere: no such folder or file" in osteo(
        "data", "import", "../nowhere", "--clinical", "../people.csv", code=2
    )
    assert "within the data set" in osteo(
        "data", "import", "../export", "--clinical", "../people.csv", "--key", "data/key", code=2
    )
    assert not (project / "data").exists()
    assert "no person 'nobody'" in osteo("data", "withdraw", "nobody", code=2)
    assert "error:" in osteo("data", "diff", "nowhere", code=2)
    (project / "data" / "dicom" / "x").mkdir(parents=True)
    (project / "data" / "dicom" / "x" / "Doe.dcm").write_bytes(as_bytes(make_dicom(PatientName="Doe^J")))
    said = osteo("data", "check", code=1)
    assert "file 1: its name is no pseudonym" in said and "(0010,0010): a name" in said and "Doe^J" not in said


# `osteo` that stops when it has read the splits, before it writes them into the data set.
STOPPING = """
import sys
import pandas
from osteo_models.cli.main import main
from osteo_models.data.intake.dataset import Staging
write = pandas.DataFrame.to_csv
def stop(self, path, **options):
    if str(path).endswith("splits.csv"):
        print("here", flush=True)
        sys.stdin.readline()
    return write(self, path, **options)
pandas.DataFrame.to_csv = stop
main(sys.argv[1:])
"""


def test_of_two_withdrawals_at_once_neither_writes_the_other_back(project):
    osteo("data", "import", "../export", "--clinical", "../people.csv", "--workers", "1")
    first, second, third = sorted(path.name for path in (project / "data" / "dicom").iterdir())
    (project / "artifacts" / "splits").mkdir(parents=True)
    rows = "".join(f"{patient}-mri-1,{patient}\n" for patient in (first, second, third))
    (project / "artifacts" / "splits" / "splits.csv").write_text(f"image_id,patient_id\n{rows}")
    command = [sys.executable, "-c", STOPPING, "data", "withdraw", first]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout and stopped.stdout.readline() == "here\n"
        other = CliRunner().invoke(main, ["data", "withdraw", second])
        stopped.communicate("\n")
    assert stopped.returncode == 0
    if other.exit_code:  # refused, and not half done
        assert "wait for it" in other.output
        osteo("data", "withdraw", second)
    tables = {path.name: path.read_text() for path in (project / "data").glob("*.csv")}
    assert {name for name, text in tables.items() if first in text or second in text} == {"withdrawn.csv"}
    assert first in tables["withdrawn.csv"] and second in tables["withdrawn.csv"] and third in tables["splits.csv"]
    status = subprocess.run([sys.executable, "-m", "dvc", "status"], check=True, capture_output=True, text=True).stdout
    assert "up to date" in status  # the data set on disk is the one that is recorded


def test_neither_git_nor_dvc_sees_what_is_beside_the_data_set(project):
    for name in (".gitignore", ".dvcignore"):
        shutil.copyfile(ROOT / name, project / name)
    (project / "data").mkdir()
    staging = Staging(project / "data")
    with staging.lock():
        staging.prepare()
    listed = subprocess.run(["git", "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True)
    assert staging.lock_file.exists() and ".data." not in listed.stdout
    for path in (staging.lock_file, staging.import_log.parent):
        subprocess.run([sys.executable, "-m", "dvc", "check-ignore", str(path)], check=True, capture_output=True)


def test_nobody_is_moved_where_the_splits_are_only_recorded(project):
    """A fresh clone has dvc.lock, and not yet what it records."""
    osteo("data", "import", "../export", "--clinical", "../people.csv", "--workers", "1")
    (project / "dvc.lock").write_text("stages:\n  splits:\n    outs: [{path: artifacts/splits/splits.csv, md5: '0'}]\n")
    lost = "the splits that dvc.lock records are not on disk; get them with `dvc pull artifacts/splits/splits.csv`"
    assert lost in osteo("data", "import", "../export", "--clinical", "../people.csv", code=2)
    (patient, *_) = (path.name for path in (project / "data" / "dicom").iterdir())
    assert lost in osteo("data", "withdraw", patient, code=2)
    assert (project / "data" / "dicom" / patient).is_dir()


def files_under(*folders):
    """Every file's bytes."""
    return [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_withdrawn_person_is_gone_from_cache_and_remote_as_the_command_says(project):
    dvc = [sys.executable, "-m", "dvc"]
    osteo("data", "import", "../export", "--clinical", "../people.csv", "--workers", "1")
    for command in (["add", "-q", "data"], ["remote", "add", "-q", "-d", "store", "../store"], ["push", "-q"]):
        subprocess.run([*dvc, *command], check=True, capture_output=True)
    commit(project, "one")
    patient = sorted(path.name for path in (project / "data" / "dicom").iterdir())[0]
    images = files_under(project / "data" / "dicom" / patient)
    osteo("data", "withdraw", patient)
    commit(project, "two")
    places = (project / ".dvc" / "cache", project.parent / "store")
    assert all(sum(image in files_under(place) for image in images) == 2 for place in places)
    subprocess.run([*dvc, "push", "-q"], check=True, capture_output=True)
    subprocess.run([*dvc, "gc", "--force", "--workspace", "--cloud"], check=True, capture_output=True)
    for place in places:
        left = files_under(place)
        assert not any(image in left for image in images)
        assert len(left) > 4
    subprocess.run([*dvc, "status"], check=True, capture_output=True)
