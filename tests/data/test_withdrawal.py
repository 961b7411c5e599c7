"""A person is taken out wholly or not at all, and cannot come back."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.data.intake.dataset import Staging
from osteo_models.data.revisions import hash_data
from osteo_models.data.withdrawal import Withdrawal, read_withdrawn, withdraw_patient
from tests.data.intake_files import clinical_table

PEOPLE = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


@pytest.fixture
def data(tmp_path) -> Path:
    data = tmp_path / "data"
    for name in PEOPLE:
        (data / "dicom" / name).mkdir(parents=True)
        (data / "dicom" / name / "mri-0.dcm").write_bytes(name.encode())
        (data / "vertebrae" / name).mkdir(parents=True)
        (data / "vertebrae" / name / "mri-0.png").write_bytes(name.encode())
    clinical_table(*PEOPLE).to_csv(data / "clinical.csv", index=False)
    (data / "images.csv").write_text("path,input\n" + "".join(f"{name}/mri-0.dcm,1\n" for name in PEOPLE))
    return data


def test_a_withdrawn_person_leaves_nothing_and_cannot_come_back(data):
    first, second = PEOPLE
    image = data / "dicom" / second / "mri-0.dcm"
    held = image.stat().st_ino
    assert withdraw_patient(data, first) == Withdrawal(first, 1, 2)
    left = {path.name: path.read_text() for path in data.rglob("*.csv") if path.name != "withdrawn.csv"}
    assert not any(first in text for text in left.values())
    assert all(second in text for text in left.values())
    assert [path.name for path in (data / "vertebrae").iterdir()] == [second]
    assert not (data / "dicom" / first).exists() and image.stat().st_ino == held  # nobody else's image is copied
    assert read_withdrawn(data) == {first}
    assert withdraw_patient(data, first) == Withdrawal(first, 0, 0)
    assert withdraw_patient(data, second).images == 1 and read_withdrawn(data) == set(PEOPLE)
    assert {path.name for path in data.parent.iterdir()} == {"data", ".data.lock"}


def test_a_person_with_rows_and_no_images_or_with_images_and_no_rows_is_taken_out_too(data):
    first, second = PEOPLE
    shutil.rmtree(data / "dicom" / first)
    assert withdraw_patient(data, first) == Withdrawal(first, 0, 2)
    assert not any(first in (data / name).read_text() for name in ("clinical.csv", "images.csv"))
    for name in ("clinical.csv", "images.csv"):
        (data / name).unlink()
    assert withdraw_patient(data, second) == Withdrawal(second, 1, 0)
    assert not (data / "dicom" / second).exists() and read_withdrawn(data) == {first, second}


def test_an_empty_folder_of_images_is_taken_out_too(data):
    (data / "dicom" / "cccccccccccc").mkdir()
    assert withdraw_patient(data, "cccccccccccc") == Withdrawal("cccccccccccc", 0, 0)
    assert not (data / "dicom" / "cccccccccccc").exists() and read_withdrawn(data) == {"cccccccccccc"}


@pytest.mark.parametrize("wrong", ["nobody", "../data", "", ".", "dicom/aaaaaaaaaaaa"])
def test_nobody_is_an_error_and_nothing_changes(data, wrong):
    before = hash_data(data)
    with pytest.raises(InputError, match=r"no person '.*'; see patient_id in clinical\.csv"):
        withdraw_patient(data, wrong)
    assert hash_data(data) == before and not any(path.is_dir() for path in data.parent.glob(".*"))


def die_before(step: int) -> None:
    """End this process, as a kill does, before its next step but `step` in the file system."""
    left = itertools.count(step, -1)
    for name in ("link", "mkdir", "rename", "replace", "unlink", "rmdir"):
        real = getattr(os, name)

        def deadly(*arguments, real=real, **options):
            if next(left) == 0:
                os._exit(9)
            return real(*arguments, **options)

        setattr(os, name, deadly)


def test_killed_anywhere_nobody_is_half_withdrawn(data):
    """Killed before each step in turn, then given again."""
    kept = data.with_name("kept")
    shutil.copytree(data, kept)
    before = hash_data(data)
    withdraw_patient(data, PEOPLE[0])
    after = hash_data(data)
    seen: list[str] = []
    for step in itertools.count():
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        child = os.fork()
        if child == 0:
            die_before(step)
            withdraw_patient(data, PEOPLE[0])
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with Staging(data).lock():
            pass
        seen.append(hash_data(data))
        withdraw_patient(data, PEOPLE[0])
        assert hash_data(data) == after
        if ended == 0:
            break
        assert ended == 9
    assert set(seen) == {before, after} and seen == sorted(seen, key=[before, after].index)
    assert len(seen) > 15
    assert sorted(path.name for path in data.parent.iterdir()) == [".data.lock", "data", "kept"]


def test_killed_anywhere_another_withdrawal_or_an_unfinished_import_does_not_bring_the_person_back(data):
    """A withdrawal is killed before each step in turn; another person's is given, then the first one again."""
    first, second = PEOPLE
    log = Staging(data).import_log
    kept = data.with_name("kept")
    shutil.copytree(data, kept)
    for step in itertools.count():
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        log.parent.mkdir()
        log.write_text("an import that was killed, with the first person's images")
        child = os.fork()
        if child == 0:
            die_before(step)
            withdraw_patient(data, first)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if step % 2:
            withdraw_patient(data, second)
        withdraw_patient(data, first)
        assert read_withdrawn(data) == {first, second} if step % 2 else read_withdrawn(data) >= {first}
        assert not log.exists() and not (data / "dicom" / first).exists()
        if ended == 0:
            break
        assert ended == 9
    assert step > 15


def test_an_import_at_work_is_not_disturbed_and_a_killed_one_brings_nobody_back(data):
    staging = Staging(data)
    with staging.lock():
        staging.prepare()
        staging.import_log.touch()
        with pytest.raises(OsteoError, match="another command is changing the data set; wait for it"):
            withdraw_patient(data, PEOPLE[0])
        assert (data / "dicom" / PEOPLE[0]).exists() and staging.import_log.exists()
    withdraw_patient(data, PEOPLE[0])
    assert not staging.import_log.exists()  # it may hold the person's images, ready to be put in
