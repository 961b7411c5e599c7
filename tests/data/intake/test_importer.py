import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML

from osteo_models.core.errors import TableError
from osteo_models.data.clinical import read_clinical
from osteo_models.data.image_file import read_image
from osteo_models.data.intake.identity_check import find_identity
from osteo_models.data.intake.importer import import_source
from osteo_models.data.reasons import REASONS
from osteo_models.data.withdrawal import withdraw_patient
from tests.data.intake_files import AXIAL, KEY, as_bytes, clinical_table, make_dicom, tree


def test_every_input_has_one_row_with_its_reason(source, run_import):
    files = {
        "good.dcm": make_dicom(),
        "ct.dcm": make_dicom("CT", patient="P2"),
        "copy/same-pixels.dcm": make_dicom(SOPInstanceUID="1.2.3"),
        "stranger.dcm": make_dicom(patient="P9", seed=9),
        "nobody.dcm": make_dicom(seed=8, PatientID=""),
        "ultrasound.dcm": make_dicom(Modality="US"),
        "burned.dcm": make_dicom(BurnedInAnnotation="YES"),
        "scout.dcm": make_dicom(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "neck.dcm": make_dicom(BodyPartExamined="CSPINE"),
        "t2.dcm": make_dicom(EchoTime="100", RepetitionTime="3000"),
        "coronal.dcm": make_dicom(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        "axial.dcm": make_dicom(ImageOrientationPatient=AXIAL),
        "lone-axial.dcm": make_dicom("CT", patient="P3", ImageOrientationPatient=AXIAL),
        "flat.dcm": make_dicom(PixelSpacing=None),
        "tiny.dcm": make_dicom(Rows=8, Columns=8),
        "unscaled.dcm": make_dicom("CT", patient="P2", seed=3, RescaleSlope=None),
        "colour.dcm": make_dicom(SamplesPerPixel=3),
        "screen.dcm": make_dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
        "headless.dcm": make_dicom(Rows=None, PixelData=None),
        "empty.dcm": make_dicom(seed=6, PixelData=None),
        "film.dcm": make_dicom(seed=7),
        "long-series.dcm": make_dicom(NumberOfFrames=100_000),
    }
    film = files["film.dcm"]
    film.PixelData, film.file_meta.TransferSyntaxUID = encapsulate([film.PixelData]), MPEG2MPML
    film["PixelData"].is_undefined_length = True
    for name, dataset in files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(as_bytes(dataset))
    (source / "notes.txt").write_text("no image")
    (source / "cut.dcm").write_bytes(as_bytes(make_dicom(seed=5))[:-900])
    (source / "broken.dcm").write_bytes(as_bytes(make_dicom(seed=5))[:140])
    outcome, reasons = run_import()
    assert reasons == {
        "good.dcm": "duplicate",  # the copy comes first by name
        "copy/same-pixels.dcm": "accepted",
        "ct.dcm": "accepted",
        "stranger.dcm": "not_in_table",
        "nobody.dcm": "no_patient",
        "ultrasound.dcm": "other_modality",
        "burned.dcm": "burned_in",
        "scout.dcm": "localizer",
        "neck.dcm": "other_body_part",
        "t2.dcm": "other_weighting",
        "coronal.dcm": "coronal",
        "axial.dcm": "axial_mr",
        "lone-axial.dcm": "few_slices",
        "flat.dcm": "no_geometry",
        "tiny.dcm": "implausible",
        "unscaled.dcm": "no_scale",
        "colour.dcm": "colour",
        "screen.dcm": "secondary_capture",
        "headless.dcm": "no_pixels",
        "empty.dcm": "no_pixels",
        "film.dcm": "unknown_encoding",
        "long-series.dcm": "too_large",
        "notes.txt": "not_an_image",
        "cut.dcm": "cut_short",
        "broken.dcm": "damaged",
    }
    assert (outcome.inputs, outcome.accepted, outcome.images, outcome.added) == (25, 2, 2, 2)
    elsewhere = {  # below, in test_cases, test_review and test_hostile
        *("not_listed", "withdrawn", "timeout", "crashed", "dicomdir", "link", "long_path", "damaged_archive"),
        *("damaged_pixels", "blank", "not_magnitude", "oblique", "missing_slices", "repeated_positions"),
        *("not_preferred", "reviewed"),
    }
    assert set(reasons.values()) - {"accepted"} == set(REASONS) - elsewhere


def test_what_modelling_uses_comes_through(source, run_import, tmp_path):
    original = make_dicom("CT", patient="P2")
    (source / "ct.dcm").write_bytes(as_bytes(original))
    run_import()
    (path,) = (tmp_path / "data" / "dicom").rglob("*.dcm")
    seen, meant = (read_image(data, where="x") for data in (path.read_bytes(), as_bytes(original)))
    assert np.array_equal(seen.pixels, meant.pixels)
    assert seen.spacing_mm == meant.spacing_mm
    assert seen.modality == "ct"
    assert seen.patient_id == KEY.patient("P2") == path.parent.name


def test_monochrome1_padding_and_fractional_rescale(source, run_import, tmp_path):
    stored = np.full((64, 48), 100, np.uint16)
    stored[:, 0], stored[:, 1] = 63536, 4000
    dataset = make_dicom(PixelData=stored.tobytes(), PhotometricInterpretation="MONOCHROME1", BitsStored=16, HighBit=15)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    (source / "mr.dcm").write_bytes(as_bytes(dataset))
    run_import()
    (path,) = (tmp_path / "data" / "dicom").rglob("*.dcm")
    pixels = read_image(path.read_bytes(), where="x").pixels
    assert (pixels[0, 0], pixels[0, 1], pixels[0, 2]) == (4000, 100, 4000)  # padding became the background


def test_the_modality_table_is_applied_and_the_table_for_looking_is_not(source, run_import, tmp_path):
    stored = (np.arange(64 * 48) % 16).astype(np.uint16).reshape(64, 48)
    dataset = make_dicom("CT", patient="P2", PixelData=stored.tobytes(), RescaleSlope=None, RescaleIntercept=None)
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    tables = {"ModalityLUTSequence": np.arange(16) * 100 + 200, "VOILUTSequence": np.full(16, 7)}
    for name, values in tables.items():
        item = pydicom.Dataset()
        item.add_new("LUTDescriptor", "US", [16, 0, 16])
        item.add_new("LUTData", "US", [int(value) for value in values])
        item.ModalityLUTType = "HU"
        setattr(dataset, name, pydicom.Sequence([item]))
    (source / "ct.dcm").write_bytes(as_bytes(dataset))
    _, reasons = run_import()
    assert reasons == {"ct.dcm": "accepted"}
    (path,) = (tmp_path / "data" / "dicom").rglob("*.dcm")
    assert np.array_equal(read_image(path.read_bytes(), where="x").pixels, stored * 100.0 + 200)


def test_a_range_of_padding_values_becomes_the_background(source, run_import, tmp_path):
    stored = np.full((64, 48), 100, np.uint16)
    stored[0, :3], stored[1] = (60000, 60001, 60005), 2000
    dataset = make_dicom("CT", patient="P2", PixelData=stored.tobytes(), BitsStored=16, HighBit=15)
    dataset.add_new("PixelPaddingValue", "US", 60000)
    dataset.add_new("PixelPaddingRangeLimit", "US", 60005)
    (source / "ct.dcm").write_bytes(as_bytes(dataset))
    run_import()
    (path,) = (tmp_path / "data" / "dicom").rglob("*.dcm")
    pixels = read_image(path.read_bytes(), where="x").pixels
    assert set(pixels[0].tolist()) == {100 - 1024.0} and set(pixels[1].tolist()) == {2000 - 1024.0}


def test_enhanced_multi_frame_gives_a_slice_per_frame(source, run_import, tmp_path):
    dataset = make_dicom("CT", patient="P2", PixelSpacing=None, ImageOrientationPatient=None, ImagePositionPatient=None,
                         RescaleSlope=None, RescaleIntercept=None, NumberOfFrames=3)  # fmt: skip
    values = np.arange(3 * 64 * 48, dtype=np.uint16) % 3000
    dataset.PixelData = values.tobytes()

    def group(name, **content):
        macro = pydicom.Dataset()
        for key, value in content.items():
            setattr(macro, key, value)
        return name, pydicom.Sequence([macro])

    shared, frames = pydicom.Dataset(), []
    for name, macro in (
        group("PixelMeasuresSequence", PixelSpacing=[1.2, 1.1]),
        group("PlaneOrientationSequence", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        group("PixelValueTransformationSequence", RescaleSlope="1", RescaleIntercept="-1000"),
    ):
        setattr(shared, name, macro)
    for number in range(3):
        frame = pydicom.Dataset()
        name, macro = group("PlanePositionSequence", ImagePositionPatient=[float(number), 0, 0])
        setattr(frame, name, macro)
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    (source / "enhanced.dcm").write_bytes(as_bytes(dataset))
    outcome, reasons = run_import()
    assert reasons == {"enhanced.dcm": "accepted"} and outcome.images == 3
    seen = [read_image(path.read_bytes(), where="x").pixels for path in (tmp_path / "data" / "dicom").rglob("*.dcm")]
    expected = values.reshape(3, 64, 48).astype(np.float32) - 1000
    assert sorted(float(image.sum()) for image in seen) == sorted(float(image.sum()) for image in expected)


def test_an_axial_ct_series_is_reformatted(source, run_import, tmp_path):
    for number in range(24):
        stored = np.full((64, 48), 1000, np.uint16)
        stored[30:50, 20:28] = 1024 + 400 + 10 * number  # a column of bone, denser towards the head
        stored[0] += np.arange(48, dtype=np.uint16)  # no two sagittal slices are the same
        place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [-24.0, -32.0, 3.0 * number]}
        dataset = make_dicom("CT", patient="P2", seed=number, PixelData=stored.tobytes(), **place)
        (source / f"a{number:02d}.dcm").write_bytes(as_bytes(dataset))
    outcome, reasons = run_import()
    assert set(reasons.values()) == {"accepted"} and len(reasons) == 24
    assert outcome.images == len(list((tmp_path / "data" / "dicom").rglob("*.dcm"))) > 3
    images = [pydicom.dcmread(path) for path in (tmp_path / "data" / "dicom").rglob("*.dcm")]
    middle = min(images, key=lambda image: abs(float(image.ImagePositionPatient[0]) - (-24 + 24 * 1.1)))
    assert abs(middle.Rows * 1.1 - 23 * 3.0) <= 1.1 and abs(middle.Columns * 1.1 - 64 * 1.2) <= 1.2
    assert list(middle.ImageOrientationPatient) == [0, 1, 0, 0, 0, -1]
    column = middle.pixel_array[:, round(40 * 1.2 / 1.1)]
    assert column[0] == 400 + 230 and abs(column[-1] - 400) <= 4  # head first
    assert (np.diff(column) <= 0).all()


def test_pictures_come_by_their_table(source, run_import, tmp_path):
    for name, value in (("a.png", 10), ("b.jpg", 90), ("c.png", 200)):
        grey = np.full((80, 60), value, np.uint8)
        grey[:40] = 0
        Image.fromarray(grey).save(source / name)
    table = pd.DataFrame({"file": ["a.png", "b.jpg"], "patient_id": ["P1", "P2"], "modality": ["mri", "ct"]})
    table.to_csv(tmp_path / "pictures.csv", index=False)
    _, reasons = run_import(pictures=tmp_path / "pictures.csv")
    assert reasons == {"a.png": "accepted", "b.jpg": "accepted", "c.png": "not_listed"}
    (path,) = (tmp_path / "data" / "dicom" / KEY.patient("P1")).iterdir()
    assert path.name.startswith("mri-") and np.asarray(Image.open(path))[50, 0] == 10
    table.assign(modality="xray").to_csv(tmp_path / "pictures.csv", index=False)
    with pytest.raises(TableError, match=r"2 faults: row 2, modality: the value is not mri or ct; row 3"):
        run_import(pictures=tmp_path / "pictures.csv")


def test_the_same_source_twice_adds_nothing_and_a_second_one_adds(source, run_import, tmp_path):
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    first, _ = run_import()
    before = tree(tmp_path / "data")
    again, _ = run_import()
    assert (first.added, again.added) == (1, 0)
    assert tree(tmp_path / "data") == before
    (source / "b.dcm").write_bytes(as_bytes(make_dicom(seed=2, patient="P2")))
    more, reasons = run_import()
    assert more.added == 1 and reasons == {"a.dcm": "accepted", "b.dcm": "accepted"}
    assert set(before) <= set(tree(tmp_path / "data"))


def test_two_exports_may_have_files_of_one_name(source, tmp_path):
    files = {"first": make_dicom(), "second": make_dicom(seed=1), "third": make_dicom()}
    for name, dataset in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "IM0001").write_bytes(as_bytes(dataset))
        import_source(tmp_path / name, tmp_path / "clinical.csv", tmp_path / "data", KEY, names=tmp_path / "names.csv")
    rows = pd.read_csv(tmp_path / "data" / "intake.csv", keep_default_na=False).set_index("input")
    names = pd.read_csv(tmp_path / "names.csv").set_index("source")["input"]
    reasons = {source: rows.loc[name, "reason"] or "accepted" for source, name in names.items()}
    assert reasons == {"first": "accepted", "second": "accepted", "third": "duplicate"}


def test_zip_entries_write_nothing_outside_and_doubles_are_counted(source, tmp_path):
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("../../outside.dcm", as_bytes(make_dicom()))
        opened.writestr("/abs.dcm", as_bytes(make_dicom(seed=2)))
        opened.writestr("/abs.dcm", as_bytes(make_dicom(seed=3)))
        opened.writestr("bomb.dcm", bytes(40_000_000))
    before = set(tmp_path.parent.rglob("*"))
    outcome = import_source(archive, tmp_path / "clinical.csv", tmp_path / "data", KEY)
    assert (outcome.inputs, outcome.accepted, outcome.reasons) == (4, 3, {"too_large": 1})
    new = {path for path in set(tmp_path.parent.rglob("*")) - before if not path.is_relative_to(tmp_path / "data")}
    assert new == {tmp_path / ".data.lock"}
    hostile = as_bytes(make_dicom(StudyInstanceUID="1.2.3.4", seed=7)).replace(b"1.2.3.4\0", b"../../x\0")
    (source / "x.dcm").write_bytes(hostile)
    import_source(source, tmp_path / "clinical.csv", tmp_path / "data", KEY)
    assert not find_identity(tmp_path / "data")


def test_the_clinical_table_keeps_intervals_and_pools_ages(source, run_import, tmp_path):
    clinical_table("P1", age=95).to_csv(tmp_path / "clinical.csv", index=False)
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    run_import()
    row = read_clinical(tmp_path / "data" / "clinical.csv").iloc[0]
    assert row["age_years"] == 90 and row["patient_id"] == KEY.patient("P1")
    assert str(row["dxa_date"].date()) == "1900-01-01"
    assert (row["mri_date"] - row["dxa_date"]).days == 31


def test_look_alikes_of_other_patients_are_named(source, run_import, tmp_path):
    rows = np.add.outer(np.arange(64) * 20, np.arange(48) * 10 % 130).astype(np.uint16)
    (source / "a.dcm").write_bytes(as_bytes(make_dicom(PixelData=rows.tobytes())))
    (source / "b.dcm").write_bytes(as_bytes(make_dicom(patient="P2", seed=1, PixelData=(rows + 1).tobytes())))
    (source / "c.dcm").write_bytes(as_bytes(make_dicom(patient="P3", seed=2)))
    outcome, _ = run_import()
    assert outcome.look_alikes == 2
    images = pd.read_csv(tmp_path / "data" / "images.csv", keep_default_na=False).set_index("path")
    pair = [path for path in images.index if images.loc[path, "look_alike"]]
    assert [images.loc[path, "look_alike"] for path in pair] == pair[::-1]


def test_a_withdrawn_person_is_refused(source, run_import, tmp_path):
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    (source / "b.dcm").write_bytes(as_bytes(make_dicom(patient="P2", seed=1)))
    run_import()
    withdraw_patient(tmp_path / "data", KEY.patient("P1"))
    outcome, reasons = run_import()
    assert reasons == {"a.dcm": "withdrawn", "b.dcm": "accepted"} and outcome.added == 0
    assert KEY.patient("P1") not in (tmp_path / "data" / "clinical.csv").read_text()
