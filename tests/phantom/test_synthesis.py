"""The synthetic cohort on disk: table, files, headers, the same bytes, nothing half-made."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from osteo_models.core.errors import InputError
from osteo_models.data.clinical import COLUMNS, read_clinical
from osteo_models.phantom import CohortCounts, synthesis, synthesize_cohort
from osteo_models.phantom.anatomy import make_anatomy
from osteo_models.phantom.population import make_population

SEED = 2023
# SHA-256 of files of the small cohort of seed 2023: they must be the same on every machine.
PINNED = {
    "dicom/02d35843/mri-002.dcm": "3d513272e1c69b3ce61afc56f70aa0b654ab95c902935178c8df5943afe39826",
    "dicom/0b0a1d3f/mri-002.dcm": "adbfb6984149259ea7b52f8cdabdc74fe71811306613e04b1f46096835379486",
    "dicom/006064f6/ct-002.dcm": "f4842db09fb7e62ba9fd21b2f49f922554f55740078a8e22bc48b5e07b4216a4",
    "dicom/2664e4ff/ct-002.dcm": "072b35f576f108816da2569c9c3364d92d75e009de2c87d31a075a443b185420",
    "vertebrae/02d35843/mri-002.png": "e3cc52b6dea80ee2a5c31bd16378ab5d400198c75519c2ee4222214e09fcefb7",
    "vertebrae/006064f6/ct-002.png": "adc4017f191b79846d432a48fb5b26a415d6519c27373eb6947176f0e551a363",
    "clinical.csv": "428d7c74bb772d35c7e10b1e95b1ac78d616b0bfd5e5a4c066f361232e325a39",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The small cohort, made once."""
    out = tmp_path_factory.mktemp("cohort") / "data"
    steps: list[tuple[int, int]] = []
    counts = synthesize_cohort(out, seed=SEED, scale="small", workers=2, progress=lambda *step: steps.append(step))
    assert counts == CohortCounts(180, 48, 52, counts.mri_images, counts.ct_images)
    assert steps[-1] == (counts.mri_images + counts.ct_images,) * 2
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    return out


def read_all(small: Path) -> dict[str, pydicom.Dataset]:
    return {f"{file.parent.name}-{file.stem}": pydicom.dcmread(file) for file in sorted(small.glob("dicom/*/*.dcm"))}


def test_the_same_seed_gives_the_pinned_bytes(small):
    found = {name: hashlib.sha256((small / name).read_bytes()).hexdigest() for name in PINNED}
    assert found == PINNED


def test_worker_processes_do_not_change_the_bytes(small, tmp_path):
    person = next(each for each in make_population(SEED, "small") if each.slices)
    synthesis._write_person(person, tmp_path, SEED)
    for image_id in person.image_ids:
        name = f"{person.patient_id}/{image_id.split('-', 1)[1]}.dcm"
        for file in (f"dicom/{name}", f"vertebrae/{name.replace('.dcm', '.png')}"):
            assert (tmp_path / file).read_bytes() == (small / file).read_bytes()


def test_the_table_can_be_read_and_agrees_with_the_files(small):
    table = read_clinical(small / "clinical.csv").set_index("patient_id")
    assert (tuple(table.reset_index().columns), len(table)) == (COLUMNS, 228)
    assert not (table["mri_date"].notna() & table["ct_date"].notna()).any()
    folders = sorted((small / "dicom").iterdir())
    assert len(folders) == 52
    for folder in folders:
        files = sorted(file.name for file in folder.iterdir())
        modality = files[0][:3].rstrip("-")
        assert files == [f"{modality}-{number:03d}.dcm" for number in range(1, len(files) + 1)]
        assert pd.notna(table.loc[folder.name, f"{modality}_date"])
        label_maps = sorted(file.stem for file in (small / "vertebrae" / folder.name).iterdir())
        assert label_maps == [file.removesuffix(".dcm") for file in files]
        header = pydicom.dcmread(folder / files[0], stop_before_pixels=True)
        row = table.loc[folder.name]
        assert (header.PatientID, header.PatientSex) == (folder.name, row["sex"])
        assert header.PatientAge == f"{row['age_years']:03d}Y"
        assert header.StudyDate == f"{row[f'{modality}_date']:%Y%m%d}"


def test_headers_place_the_slices_side_by_side(small):
    by_patient: dict[str, list[pydicom.Dataset]] = {}
    for name, dataset in read_all(small).items():
        by_patient.setdefault(name[:8], []).append(dataset)
    assert len(by_patient) == 52 and max(map(len, by_patient.values())) > 2
    for slices in by_patient.values():
        positions = np.array([each.ImagePositionPatient for each in slices], dtype=float)
        along, down = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        normal = np.cross(along, down)
        assert np.abs(normal).tolist() == [1, 0, 0]  # sagittal
        steps = np.diff(positions @ normal)
        assert np.allclose(np.abs(steps), float(slices[0].SpacingBetweenSlices), atol=1e-5)
        assert len({np.sign(step) for step in steps}) == (1 if len(slices) > 1 else 0)
        assert [each.InstanceNumber for each in slices] == list(range(1, len(slices) + 1))
        assert len({each.SeriesInstanceUID for each in slices}) == 1
        assert [float(each.SliceLocation) for each in slices] == positions[:, 0].tolist()


def test_modalities_carry_their_technique(small):
    headers = read_all(small)
    assert {name.split("-")[1] for name in headers} == {"mri", "ct"}
    for name, header in headers.items():
        assert (header.Rows, header.Columns, header.BitsStored) == (320, 256, 12)
        assert len(header.PixelData) == 320 * 256 * 2
        if "-mri-" in name:
            assert header.SOPClassUID.name == "MR Image Storage"
            assert (float(header.RepetitionTime), float(header.EchoTime)) == (400, 7.7)
            assert (float(header.SliceThickness), float(header.SpacingBetweenSlices)) == (3.5, 4.2)
            assert float(header.PixelSpacing[0]) * header.Rows == 300  # field of view 30 cm
        else:
            assert header.SOPClassUID.name == "CT Image Storage"
            assert (header.RescaleSlope, header.RescaleIntercept, header.RescaleType) == (1, -1024, "HU")
            assert header.pixel_array.min() < 100  # air


def test_files_say_that_they_are_synthetic_and_name_nobody(small):
    datasets = read_all(small)
    assert len(datasets) > 100
    for header in datasets.values():
        assert str(header.PatientName) == ""
        assert (header.PatientBirthDate, header.PatientIdentityRemoved) == ("", "YES")
        assert "synthetic" in header.Manufacturer
        assert "Synthetic" in header.ImageComments
    uids = [header.SOPInstanceUID for header in datasets.values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in uids)
    assert all(header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID for header in datasets.values())


def test_pixels_agree_with_the_geometry(small):
    """The body's rear outline, in patient coordinates, does not depend on the spacing it was sampled with."""
    people = {each.patient_id: each for each in make_population(SEED, "small")}
    files = sorted(small.glob("dicom/*/ct-001.dcm"))[:6]
    assert len(files) == 6
    for file in files:
        header = pydicom.dcmread(file)
        spacing = float(header.PixelSpacing[0])
        assert spacing == make_anatomy(people[file.parent.name], SEED).spacing
        body = header.pixel_array.astype(int) - 1024 > -500
        last = np.nonzero(body[160])[0].max()
        rear_mm = float(header.ImagePositionPatient[1]) + last * spacing
        assert 50 < rear_mm < 128


def test_a_folder_that_holds_something_is_refused(small, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError) as caught:
        synthesize_cohort(tmp_path, seed=SEED, scale="small", workers=1)
    assert str(caught.value) == (
        f"{tmp_path}: the folder is not empty; name another folder, or pass --overwrite to replace what is there"
    )
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_interrupted_run_leaves_what_was_there(tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    (out / "old.txt").write_text("old")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize_cohort(out, seed=SEED, scale="small", workers=1, overwrite=True, progress=stop)
    assert [file.name for file in tmp_path.rglob("*")] == ["data", ".data.lock", "old.txt"]


def test_overwriting_replaces_everything(tmp_path, monkeypatch):
    out = tmp_path / "data"
    out.mkdir()
    (out / "old.txt").write_text("old")
    monkeypatch.setattr(synthesis, "_write_person", lambda person, folder, seed: person.slices)
    synthesize_cohort(out, seed=SEED, scale="small", workers=1, overwrite=True)
    assert sorted(file.name for file in tmp_path.rglob("*")) == [".data.lock", "clinical.csv", "data"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError, match="a file, not a folder; name another folder"):
        synthesize_cohort(tmp_path / "data", seed=SEED, scale="small", overwrite=True)
