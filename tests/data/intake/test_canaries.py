"""Marks put wherever a file can name somebody: none may come out, in whatever the import writes or says."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary, RepeatersDictionary

from osteo_models.core.errors import TableError
from osteo_models.data.clinical import read_clinical
from osteo_models.data.intake.identity_check import find_identity
from tests.data.intake_files import clinical_table, make_dicom, tree

CANARY = "CANARYXQZ"
DIGITS = "1777777771"  # where only numbers can stand
MARKS = (CANARY.encode(), CANARY.lower().encode(), DIGITS.encode(), b"19770707", b"070707.77", b"077Y")
# By representation (PS3.5 6.2); those that hold 16 bits have no room for a mark that could not be there by chance.
VALUES = {
    **dict.fromkeys(("PN", "LO", "SH", "ST", "LT", "UT", "UC", "CS", "AE"), CANARY),
    "DA": "19770707",
    "DT": "19770707070707",
    "TM": "070707.77",
    "UR": f"http://{CANARY}",
    "AS": "077Y",
    "UI": f"1.2.{DIGITS}.3",
    "DS": f"{DIGITS}.5",
    "IS": DIGITS,
    **dict.fromkeys(("OB", "UN", "OB or OW", "OW"), CANARY.encode() + b"_"),
}
# What an image is refused by, how its pixels are read, and the numbers that are taken over on purpose.
USED = {
    *("BodyPartExamined", "BurnedInAnnotation", "SpecificCharacterSet", "NumberOfFrames", "PixelPaddingValue"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "KVP", "MagneticFieldStrength"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ContrastBolusAgent"),
}


def mark_everything(dataset: pydicom.Dataset) -> int:
    """Put a mark in every attribute of the dictionary, sequences too, and in the repeating groups."""
    used = {element.keyword for element in dataset} | USED
    inner = nested(5)
    count = 0
    both = {**DicomDictionary, **{int(tag.replace("x", "0"), 16): entry for tag, entry in RepeatersDictionary.items()}}
    for tag, (vr, vm, _, _, keyword) in both.items():
        if not 0x00080000 < tag < 0xFFFA0000 or keyword in used or not keyword:
            continue
        if vr == "SQ":
            dataset.add_new(tag, vr, pydicom.Sequence([inner]))
        elif vr in VALUES:
            several = int(vm[0]) if vm[0].isdigit() and not isinstance(VALUES[vr], bytes) else 1
            dataset.add_new(tag, vr.split(" ")[0], [VALUES[vr]] * several if several > 1 else VALUES[vr])
        else:
            continue
        count += 1
    return count


def nested(depth: int) -> pydicom.Dataset:
    """Sequences this deep, with a name at each level."""
    item = pydicom.Dataset()
    item.PatientName, item.PatientBirthDate = CANARY, "19770707"
    for _ in range(depth - 1):
        outer = pydicom.Dataset()
        outer.PatientName, outer.RequestAttributesSequence = CANARY, pydicom.Sequence([item])
        item = outer
    return item


def marked_file(dataset: pydicom.Dataset) -> bytes:
    """A file with marks in its preamble, its file meta, its data set, and behind its end."""
    block = dataset.private_block(0x0099, CANARY, create=True)
    block.add_new(1, "LO", CANARY)
    block.add_new(2, "SQ", pydicom.Sequence([nested(5)]))
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 == 2 and keyword != "TransferSyntaxUID" and vr in VALUES and tag != 0x00020001:
            dataset.file_meta.add_new(tag, vr, VALUES[vr])
    dataset.preamble = (CANARY * 20).encode()[:128]
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue() + CANARY.encode()


def picture() -> bytes:
    """A PNG with marks in its text, its metadata of the camera, and behind its end."""
    grey = np.add.outer(np.arange(80), np.arange(60)).astype(np.uint8)
    notes, camera = PngImagePlugin.PngInfo(), Image.Exif()
    notes.add_text("Author", CANARY)
    camera[0x013B] = CANARY
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", pnginfo=notes, exif=camera)
    return buffer.getvalue() + CANARY.encode()


def osteo(*arguments: object, folder: Path) -> str:
    """What a command prints, to either stream: that of its workers too."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OSTEO_KEY_FILE": str(folder.parent / "private" / "key"),
    }
    command = [sys.executable, "-c", "from osteo_models.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An archive of marked files, whose own names are marked, with its tables."""
    uids = {f"{name}InstanceUID": f"1.2.{DIGITS}.{number}" for number, name in enumerate(("Study", "Series", "SOP"))}
    dataset = make_dicom(PatientID=f"{CANARY}1", **uids)
    assert mark_everything(dataset) > 3800
    data = marked_file(dataset)
    with zipfile.ZipFile(tmp_path / f"{CANARY}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = CANARY.encode()
        archive.writestr(f"{CANARY}/{CANARY}.dcm", data)
        archive.writestr(f"{CANARY}/broken.dcm", data[: len(data) // 2])
        archive.writestr(f"../{CANARY}/mutant.dcm", data.replace(b"MONOCHROME2", CANARY.encode() + b"__"))
        archive.writestr(f"{CANARY}.png", picture())
        archive.writestr(f"{CANARY}-report.txt", CANARY)
    people = clinical_table(f"{CANARY}1").assign(name=CANARY, born="19770707")
    people.to_csv(tmp_path / "clinical.csv", index=False)
    pictures = pd.DataFrame({"file": [f"{CANARY}.png"], "patient_id": [f"{CANARY}1"], "modality": ["mri"]})
    pictures.to_csv(tmp_path / "pictures.csv", index=False)
    people.assign(sex=CANARY, age_years=CANARY, ct_date="19770707").to_csv(tmp_path / "faulty.csv", index=False)
    (tmp_path / "project").mkdir()
    return tmp_path / f"{CANARY}.zip"


def test_no_mark_comes_out(export, tmp_path):
    project = tmp_path / "project"
    tables = ("--clinical", tmp_path / "clinical.csv", "--pictures", tmp_path / "pictures.csv")
    said = osteo("data", "import", export, *tables, folder=project)
    assert "5 files: 2 accepted, 3 refused" in said, said
    with pytest.raises(TableError, match="3 faults") as wrong:
        read_clinical(tmp_path / "faulty.csv")
    written = tree(project)  # the data set, and whatever else the commands left beside it
    assert {"data/clinical.csv", "data/images.csv", "data/intake.csv"} < set(written)
    assert sum(name.startswith("data/dicom/") for name in written) == 2
    for mark in MARKS:
        # The source is told by the name that the person at the keyboard gave.
        assert mark not in (said + str(wrong.value)).replace(str(export), "").encode()
        for name, content in written.items():
            assert mark not in name.encode() and mark not in content, (name, mark)
    assert find_identity(project / "data") == []


def test_the_marks_are_where_they_are_meant_to_be(export):
    with zipfile.ZipFile(export) as archive:
        data = archive.read(f"{CANARY}/{CANARY}.dcm")
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert all(mark in data for mark in MARKS if mark != CANARY.lower().encode())
    assert CANARY.encode() in data[:128] and data.endswith(CANARY.encode())
    assert dataset.file_meta.SourceApplicationEntityTitle == CANARY
    assert dataset[0x60000022].value == CANARY  # overlay
    deep = dataset.RequestAttributesSequence[0]
    for _ in range(4):
        deep = deep.RequestAttributesSequence[0]
    assert deep.PatientName == CANARY
