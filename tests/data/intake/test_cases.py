"""Kinds of real files that an import must judge, orient or decode rightly: a row each, with the right outcome."""

from __future__ import annotations

import copy
import gzip
import io
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from osteo_models.core.params import load_params
from osteo_models.data.image_file import read_image
from osteo_models.data.prepare import prepare_bytes
from tests.conftest import ROOT
from tests.data.case_files import body_hu, draw_spine, make_axial, make_enhanced_mr, make_slice, merge_axial
from tests.data.intake_files import KEY, as_bytes, clinical_table

COS, SIN = np.cos(0.35), np.sin(0.35)
TILTED = (1, 0, 0, 0, COS, -SIN)
Files = dict[str, Dataset | bytes]


def number(series: list[Dataset]) -> Files:
    return {f"{index:03d}.dcm": dataset for index, dataset in enumerate(series)}


def blank() -> Files:
    zero = make_slice(pixels=np.zeros((300, 256), np.uint16), seed=2)
    flat = make_slice("CT", RescaleSlope=0, seed=1)
    return {"mr.dcm": make_slice(RescaleSlope=0, RescaleIntercept=0), "ct.dcm": flat, "zero.dcm": zero}


def body_parts(*names: str) -> Callable[[], Files]:
    return lambda: {f"{name}.dcm": make_slice(seed=seed, BodyPartExamined=name) for seed, name in enumerate(names)}


def described(**texts: str) -> Callable[[], Files]:
    return lambda: {"a.dcm": make_slice(**texts)}


def burned_in(**changes: object) -> Callable[[], Files]:
    picture, pixels = Image.new("L", (256, 320)), draw_spine()
    ImageDraw.Draw(picture).text((5, 5), "TEST^PERSON 01.02.1950", fill=255)
    pixels[np.asarray(picture) > 100] = 4095
    return lambda: {"text.dcm": make_slice(pixels=pixels, **changes)}


def damaged_sagittal() -> Files:
    sagittal = make_slice("CT", seed=99, StudyInstanceUID="1.2.9.1", PixelData=bytes(100))
    return number(make_axial()) | {"sagittal.dcm": sagittal}


def jittering() -> Files:
    files = number(make_axial())
    for index, dataset in enumerate(files.values()):
        lean = (0.0004, -0.0006)[index % 2]
        dataset.ImageOrientationPatient = [1, lean, 0, -lean, 1, 0]
    return files


def with_copy() -> Files:
    files = number(make_axial())
    return files | {"030 (copy).dcm": files["030.dcm"]}


def without(*missing: int) -> Callable[[], Files]:
    return lambda: {name: file for name, file in number(make_axial()).items() if int(name[:3]) not in missing}


def with_damaged() -> Files:
    files = number(make_axial())
    files["059.dcm"].PixelData = bytes(100)
    return files


def two_phases() -> Files:
    series = make_axial()
    late = [copy.deepcopy(each) for each in series]
    for early, each in zip(series, late, strict=True):
        early.AcquisitionNumber, each.AcquisitionNumber = 1, 2
        each.PixelData = (np.frombuffer(each.PixelData, np.int16) + 7).tobytes()
    return number(series) | {f"late {name}": each for name, each in number(late).items()}


def gradient_echoes() -> Files:
    echo = {"ScanningSequence": "GR", "FlipAngle": 20}
    return {
        "gre.dcm": make_slice(RepetitionTime=500, EchoTime=15, **echo),
        "scout.dcm": make_slice(seed=1, RepetitionTime=7.5, EchoTime=3.7, **echo),
    }


def not_upright() -> Files:
    pixels = draw_spine()
    down = make_slice(pixels=pixels[::-1].copy(), ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    front = make_slice(pixels=pixels[:, ::-1].copy(), seed=1, ImageOrientationPatient=[0, -1, 0, 0, 0, -1])
    lying = make_slice(pixels=pixels.T.copy(), seed=2, ImageOrientationPatient=[0, 0, -1, 0, 1, 0])
    return {"0.dcm": make_slice(pixels=pixels, seed=3), "down.dcm": down, "front.dcm": front, "lying.dcm": lying}


def palette() -> Files:
    dataset = make_slice(pixels=(draw_spine() // 5).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    table = (np.arange(256, dtype=np.uint16)[::-1] * 257).tobytes()
    for tag in (0x1101, 0x1102, 0x1103):
        dataset.add_new(0x00280000 + tag, "US", [256, 0, 16])
        dataset.add_new(0x00280000 + tag + 0x100, "OW", table)
    return {"palette.dcm": dataset}


def people() -> Files:
    names = ("SP_0001", "12.345/6", " 777")
    return {f"{seed}.dcm": make_slice(seed=seed, patient=name) for seed, name in enumerate(names)}


def t1_flair() -> Files:
    inversion = {"InversionTime": 860, "ScanningSequence": ["SE", "IR"], "EchoTrainLength": 8}
    strong = {"ScanningSequence": "SE", "MagneticFieldStrength": 3}
    return {
        "flair.dcm": make_slice(RepetitionTime=2100, EchoTime=24, **inversion),
        "tse.dcm": make_slice(seed=1, RepetitionTime=1350, EchoTime=9, **strong),
        "stir.dcm": make_slice(seed=2, RepetitionTime=4000, EchoTime=30, **inversion | {"InversionTime": 160}),
        "pd.dcm": make_slice(seed=3, RepetitionTime=2500, EchoTime=15, ScanningSequence="SE"),
        "no times.dcm": make_slice(seed=4, RepetitionTime=None, EchoTime=None),
        "water.dcm": make_slice(seed=5, ImageType=["ORIGINAL", "PRIMARY", "M", "WATER"]),
        "phase.dcm": make_slice(seed=6, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]),
        "late.dcm": make_slice(seed=7, ContrastBolusAgent="Gadobutrol"),
    }


def series_of_a_study() -> Files:
    files: Files = {}
    for index, (kernel, agent) in enumerate((("Br40f", ""), ("Br69f", ""), ("Br40f", "Iomeprol"))):
        for place in range(5):
            uids = {"StudyInstanceUID": "1.2.7", "SeriesInstanceUID": f"1.2.7.{index}"}
            dataset = make_slice(
                "CT", seed=10 * index + place, ConvolutionKernel=kernel, ContrastBolusAgent=agent, **uids
            )
            files[f"{kernel} {agent}{place}.dcm"] = dataset
    return files


CASES: dict[str, tuple[Callable[[], Files], dict[str, int]]] = {
    "one grey value is no image": (blank, {"blank": 3}),
    "the lumbar spine by many names": (
        body_parts("CT SPINE", "LOMBER", "LUMBOSACRAL", "LENDENWIRBEL", "OMURGA", "RACHIS LOMB", "COL_LOMBAR"),
        {"accepted": 7},
    ),
    "other body parts": (
        body_parts("KNEE", "TSPINE", "C_SPINE", "BOYUN", "BRUSTWIRBEL", "GENOU", "RODILLA", "JOELHO", "GINOCCHIO"),
        {"other_body_part": 9},
    ),
    "a body part that no table has": (body_parts("QWERTY"), {"unclear_body_part": 1}),
    "contradicting descriptions": (described(SeriesDescription="SAG T1 C-SPINE"), {"unclear_body_part": 1}),
    "a spine, by its description the cervical one": (
        described(BodyPartExamined="SPINE", SeriesDescription="T1 sag HWS"), {"other_body_part": 1},
    ),
    "a scout by its description": (described(SeriesDescription="Lokalizer 3 plane"), {"localizer": 1}),
    "a derived image that states nothing of text": (burned_in(ImageType=["DERIVED", "SECONDARY"]), {"unknown_text": 1}),
    "letters in an original image": (burned_in(), {"letters": 1}),
    "a damaged sagittal picture beside a series": (damaged_sagittal, {"accepted": 60, "not_preferred": 1}),
    "directions that are nearly equal": (jittering, {"accepted": 60}),
    "a file twice in a series": (with_copy, {"accepted": 60, "duplicate": 1}),
    "one slice missing": (without(30), {"accepted": 59}),
    "two slices missing in a row": (without(30, 31), {"missing_slices": 58}),
    "few slices": (without(*range(15, 60)), {"few_slices": 15}),
    "a damaged file in a series": (with_damaged, {"accepted": 59, "cut_short": 1}),
    "two acquisitions at the same positions": (two_phases, {"accepted": 60, "not_preferred": 60}),
    "a series in one enhanced object": (lambda: {"all.dcm": merge_axial(make_axial())}, {"accepted": 1}),
    "an enhanced knee": (lambda: {"a.dcm": make_enhanced_mr(500, 10, "Knee")}, {"other_body_part": 1}),
    "an enhanced T2": (lambda: {"a.dcm": make_enhanced_mr(3500, 100, "Lumbar spine")}, {"other_weighting": 1}),
    "an enhanced T1": (lambda: {"a.dcm": make_enhanced_mr(500, 10, "Lumbar spine")}, {"accepted": 1}),
    "gradient echoes": (gradient_echoes, {"other_weighting": 2}),
    "one picture in four orientations": (not_upright, {"accepted": 1, "duplicate": 3}),
    "a palette of colours": (palette, {"colour": 1}),
    "any printable identifier": (people, {"accepted": 3}),
    "weightings": (
        t1_flair,
        {"accepted": 2, "other_weighting": 2, "unknown_weighting": 1, "not_magnitude": 2, "other_technique": 1},
    ),
    "a whole spine, whose middle is not lumbar": (
        lambda: {"a.dcm": make_slice(pixels=draw_spine(533), BodyPartExamined="WHOLESPINE")}, {"unclear_level": 1},
    ),
    "the best series of a study": (series_of_a_study, {"accepted": 5, "not_preferred": 10}),
}  # fmt: skip


@pytest.fixture
def run_case(source, run_import, tmp_path):
    """Write files, import them, and give outcome and reasons."""

    def run(files: Files, **options: object):
        for name, file in files.items():
            (source / name).write_bytes(file if isinstance(file, bytes) else as_bytes(file))
        clinical_table("P1", "P2", "SP_0001", "12.345/6", "777").to_csv(tmp_path / "clinical.csv", index=False)
        return run_import(**options)

    return run


def written(tmp_path: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((tmp_path / "data" / "dicom").rglob("*.dcm"))]


@pytest.mark.parametrize(("build", "expected"), CASES.values(), ids=CASES)
def test_each_kind_has_its_outcome(build, expected, run_case):
    _, reasons = run_case(build())
    assert Counter(reasons.values()) == expected, reasons


@pytest.mark.parametrize(
    ("direction", "step"),
    [((1, 0, 0, 0, 1, 0), (0, 0, 3)), (TILTED, (0, 0, 3)), (TILTED, (0, 3 * SIN, 3 * COS)),
     ((0, 1, 0, -1, 0, 0), (0, 0, -3)), ((-1, 0, 0, 0, 1, 0), (0, 0, 2))],
    ids=["straight", "gantry tilt", "oblique", "turned, from the head", "mirrored"],
)  # fmt: skip
def test_views_show_the_body_at_the_coordinates_that_they_state(direction, step, run_case, tmp_path):
    run_case(number(make_axial(90 if abs(step[2]) == 2 else 60, direction=direction, step=step)))
    images = written(tmp_path)
    assert len(images) >= 5
    for image in images:
        assert list(image.ImageOrientationPatient) == [0, 1, 0, 0, 0, -1]
        corner, spacing = [float(value) for value in image.ImagePositionPatient], float(image.PixelSpacing[0])
        y = corner[1] + spacing * np.arange(image.Columns)[None, :]
        z = corner[2] - spacing * np.arange(image.Rows)[:, None]
        error = np.abs(image.pixel_array - body_hu(corner[0], y, z))
        assert error.mean() < 30, error.mean()
        assert np.ptp(z) > 100
    middle = min(images, key=lambda image: abs(float(image.ImagePositionPatient[0])))
    check_landmarks(middle)


def check_landmarks(image: pydicom.Dataset) -> None:
    """The centre of each ball that is inside the image, found by its brightness, is within 1 mm."""
    corner, spacing = [float(value) for value in image.ImagePositionPatient], float(image.PixelSpacing[0])
    y = corner[1] + spacing * np.arange(image.Columns)
    z = corner[2] - spacing * np.arange(image.Rows)
    inside = [height for height in range(-90, 91, 30) if z[-1] + 12 < height < z[0] - 12]
    assert len(inside) >= 3
    for height in inside:
        near = np.hypot(y[None, :] - 20, z[:, None] - height) < 14
        bright = (image.pixel_array > 220) & near
        assert abs((y[None, :] * bright).sum() / bright.sum() - 20) < 1
        assert abs((z[:, None] * bright).sum() / bright.sum() - height) < 1


def test_missing_identifiers_are_made_and_shared_by_no_two_people(run_case, tmp_path):
    names = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    files = {
        f"{p}.dcm": make_slice(seed=seed, patient=p, **dict.fromkeys(names)) for seed, p in enumerate(("P1", "P2"))
    }
    same = {
        f"{p} too.dcm": make_slice(seed=seed, patient=p, StudyInstanceUID="1.2.3") for seed, p in ((5, "P1"), (6, "P2"))
    }
    run_case(files | same)
    images = written(tmp_path)
    for name in (*names, "FrameOfReferenceUID"):
        assert len({image.get(name) for image in images}) == 4, name


def test_the_same_file_gives_the_same_pixels_in_import_and_prediction(run_case, tmp_path):
    padded = draw_spine(seed=1)
    padded[:, :60] = 4095
    signed = draw_spine(seed=2).astype(np.int16)
    signed[:, :50] = -32768
    files = {
        "ct.dcm": make_slice("CT", PhotometricInterpretation="MONOCHROME1"),
        "padded.dcm": make_slice(pixels=padded, seed=1),
        "signed.dcm": make_slice(pixels=signed, seed=2),
        "inverted.dcm": make_slice(seed=3, PhotometricInterpretation="MONOCHROME1"),
        "fractions.dcm": make_slice(seed=4, RescaleSlope=0.37, RescaleIntercept=-3.2),
        "down.dcm": make_slice(seed=5, ImageOrientationPatient=[0, 1, 0, 0, 0, 1]),
        "turned.dcm": make_slice(
            seed=6, ImageOrientationPatient=[0, COS, -SIN, 0, -SIN, -COS], PixelSpacing=[0.9, 1.1]
        ),
    }
    files["padded.dcm"].add_new("PixelPaddingValue", "US", 4095)
    files["signed.dcm"].add_new("PixelPaddingValue", "US", 32768)  # the bits of -32768
    _, reasons = run_case(files)
    assert set(reasons.values()) == {"accepted"}
    prepare = load_params(ROOT / "params.yaml").prepare
    imported = {prepare_bytes(as_bytes(image), prepare=prepare).pixels.tobytes() for image in written(tmp_path)}
    raw = {prepare_bytes(as_bytes(file), prepare=prepare).pixels.tobytes() for file in files.values()}
    assert imported == raw and len(raw) == len(files)
    pixels = read_image(as_bytes(files["signed.dcm"]), where="x").pixels
    assert (pixels.min(), pixels.max()) == (draw_spine(seed=2)[:, 50:].min(), draw_spine(seed=2).max())


def test_deep_and_turned_pictures_keep_what_they_show(run_case, tmp_path):
    def encode(picture: Image.Image, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, **options)
        return buffer.getvalue()

    turn = Image.Exif()
    turn[0x0112] = 6
    grey = (draw_spine() // 5).astype(np.uint8)
    files = {
        "16.png": encode(Image.fromarray(draw_spine() * 40), format="PNG"),
        "12in16.png": encode(Image.fromarray(draw_spine(seed=1)), format="PNG"),
        "turned.jpg": encode(Image.fromarray(np.rot90(grey).copy()), format="JPEG", exif=turn),
    }
    table = pd.DataFrame({"file": list(files), "patient_id": "P1", "modality": "mri"})
    table.to_csv(tmp_path / "pictures.csv", index=False)
    _, reasons = run_case(files, pictures=tmp_path / "pictures.csv")
    assert set(reasons.values()) == {"accepted"}
    for path in (tmp_path / "data" / "dicom").rglob("*.png"):
        seen = np.asarray(Image.open(path)).astype(float)
        assert seen.shape == grey.shape and np.corrcoef(seen.ravel(), grey.ravel())[0, 1] > 0.99


def test_files_come_in_many_wrappings(source, run_case, tmp_path):
    plain = as_bytes(make_slice(seed=5))
    files: Files = {"zipped.dcm.gz": gzip.compress(as_bytes(make_slice(seed=1))), "no prefix.dcm": plain[132:]}
    files |= {"bomb.gz": gzip.compress(bytes(40_000_000)), "damaged.zip": b"PK\x03\x04 cut", "a.dcm": make_slice()}
    bare = make_slice(seed=6)
    buffer = io.BytesIO()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True)
    with zipfile.ZipFile(source / "inner.ZIP", "w") as archive:
        archive.writestr("deep/b.dcm", as_bytes(make_slice(seed=2)))
        archive.writestr("bare.dcm", buffer.getvalue())
    (tmp_path / "outside.dcm").write_bytes(as_bytes(make_slice(seed=3)))
    (source / "outside.dcm").symlink_to(tmp_path / "outside.dcm")
    (source / "inside.dcm").symlink_to("a.dcm")
    (source / "nowhere.dcm").symlink_to("gone")
    (source / "cycle").symlink_to(".")
    _, reasons = run_case(files)
    assert reasons == {
        **dict.fromkeys(("zipped.dcm.gz", "no prefix.dcm", "inner.ZIP/deep/b.dcm", "inner.ZIP/bare.dcm"), "accepted"),
        **dict.fromkeys(("outside.dcm", "nowhere.dcm", "cycle"), "link"),
        "a.dcm": "accepted", "inside.dcm": "duplicate", "bomb.gz": "too_large", "damaged.zip": "damaged_archive",
    }  # fmt: skip


def test_a_path_that_is_too_long_has_a_row(source, run_case):
    folder = os.open(source, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        _, reasons = run_case({"a.dcm": make_slice()})
    finally:
        shutil.rmtree(source / ("d" * 250))  # other tests list the folders of all
    assert Counter(reasons.values()) == {"accepted": 1, "long_path": 1}


def test_a_site_adds_words_without_touching_code(run_case):
    files = {
        "a.dcm": make_slice(BodyPartExamined="KRIZOVA PATER"),
        "b.dcm": make_slice(seed=1, BodyPartExamined="ZOZKA"),
    }
    _, reasons = run_case(files, site_words=(("lumbar", ("křížová-páter",)), ("other", ("zozk*",))))
    assert reasons == {"a.dcm": "accepted", "b.dcm": "other_body_part"}


def test_absence_of_text_is_stated_only_where_it_is_known(run_case, tmp_path):
    run_case({"a.dcm": make_slice(), "b.dcm": make_slice(seed=1, BurnedInAnnotation="NO")})
    assert sorted(str(image.get("BurnedInAnnotation")) for image in written(tmp_path)) == ["NO", "None"]


def test_thin_slices_stream(run_case, tmp_path):
    outcome, reasons = run_case(number(make_axial(400, side=192, pixel_mm=1.0, step=(0, 0, 0.625))))
    assert set(reasons.values()) == {"accepted"} and outcome.images >= 5
    assert {KEY.patient("P1")} == {image.PatientID for image in written(tmp_path)}
