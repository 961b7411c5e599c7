"""Broken and hostile files: every one gets its row, and nothing else happens."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from collections import Counter
from contextlib import nullcontext
from itertools import chain
from typing import Any

import click
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from osteo_models.core.errors import ImageError
from osteo_models.data.image_file import read_image
from osteo_models.data.intake import importer, workers
from osteo_models.data.intake.identity_check import find_identity
from osteo_models.data.intake.reading import check_headers
from osteo_models.data.intake.sources import Input
from osteo_models.data.intake.workers import Batch, open_workers, run_batches
from osteo_models.data.reasons import DOUBTS, REASONS, RejectedInput
from tests.data.intake_files import as_bytes, make_dicom
from tests.data.intake_mutants import (
    ATTRIBUTES,
    DECIDED_BY,
    PACKED,
    SYNTAXES,
    encode,
    explain,
    grey_pixels,
    list_elements,
    mutate,
    reach_of,
)
from tests.data.intake_watch import Watch

WORKERS = 2
LOSS = {JPEGBaseline8Bit: 8, JPEGExtended12Bit: 30, JPEGLSNearLossless: 3}  # the most, in stored values


def check_mutants(count: int, syntaxes, source, run_import, tmp_path) -> None:
    rng = random.Random(11)
    originals = [encode(syntax, seed) for seed, syntax in enumerate(syntaxes)]
    elements = [[] if syntax == DeflatedExplicitVRLittleEndian else list_elements(data)
                for syntax, data in zip(syntaxes, originals, strict=True)]  # fmt: skip
    mutants: dict[str, tuple[int, bytes, frozenset[str]]] = {}
    for number in range(count):
        kind = number % len(syntaxes)
        data, change = mutate(originals[kind], rng)
        name = f"{number:05d}.dcm"
        mutants[name] = kind, data, reach_of(change, elements[kind]) if elements[kind] else ATTRIBUTES
        (source / name).write_bytes(data)
    for seed, data in enumerate(originals):
        (source / f"original-{seed}.dcm").write_bytes(data)
    # A worker's death is not caught, so it fails the test; a batch that a busy machine is slow with is tried again.
    with Watch() as watch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "ProcessExpired", ())
        outcome, reasons = run_import(workers=WORKERS)
    assert outcome.inputs == len(reasons) == count + len(originals)
    assert set(reasons.values()) <= {*REASONS, *DOUBTS, "accepted"}
    assert {"accepted", "damaged", "duplicate"} <= set(reasons.values())
    assert not {"timeout", "crashed"} & set(reasons.values()), outcome.reasons  # no hang over 5 s, no death
    assert len(watch.grandchildren) >= WORKERS
    assert watch.peak_bytes < workers.MEMORY_BYTES
    assert find_identity(tmp_path / "data") == []
    check_what_was_accepted(originals, mutants, reasons)
    click.echo(f"\n{count} mutants: {Counter(reasons.values())}; most memory {watch.peak_bytes >> 20} MiB")


def check_what_was_accepted(originals, mutants, reasons) -> None:
    """An accepted mutant equals its original in what is used, or a rule says why it may differ."""
    found: Counter[str] = Counter()
    for name, (kind, data, reach) in mutants.items():
        if reasons[name] not in ("accepted", "duplicate"):
            continue
        ruled, unruled = explain(originals[kind], data, reach)
        assert not unruled, (name, kind, unruled)
        found.update(ruled or {"nothing"})
        found["narrow"] += reach != ATTRIBUTES and not ruled
    assert {"nothing", "pixels"} <= set(found) <= {"nothing", "narrow", *DECIDED_BY}
    assert found["narrow"] > len(mutants) / 100  # where all could be reached, nothing would have been shown
    click.echo(f"\naccepted mutants that differ in {dict(found.most_common())}")


def test_mutated_files_get_a_row_each(source, run_import, tmp_path):
    check_mutants(480, (*SYNTAXES, *PACKED), source, run_import, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("count", "syntaxes"), [(10_000, SYNTAXES), (6_000, tuple(PACKED))], ids=["plain", "packed"])
def test_thousands_of_mutated_files_get_a_row_each(count, syntaxes, source, run_import, tmp_path):
    check_mutants(count, syntaxes, source, run_import, tmp_path)


def test_every_transfer_syntax_is_read(source, run_import, tmp_path):
    syntaxes = (*SYNTAXES, *PACKED)
    for seed, syntax in enumerate(syntaxes):
        (source / f"{seed}.dcm").write_bytes(encode(syntax, seed))
    _, reasons = run_import()
    assert reasons == {f"{seed}.dcm": "accepted" for seed in range(len(syntaxes))}
    written = [pydicom.dcmread(path) for path in (tmp_path / "data" / "dicom").rglob("*.dcm")]
    found = {round(image.ImagePositionPatient[0]): image.pixel_array.astype(int) for image in written}
    for seed, syntax in enumerate(syntaxes):
        noise = np.frombuffer(make_dicom("CT", seed=seed).PixelData, np.uint16).reshape(64, 48)
        grey = grey_pixels(seed).astype(int)
        meant = grey * 11 if syntax in PACKED else grey if syntax == JPEGBaseline8Bit else noise
        lost = np.abs(found[seed] - (meant - 1024.0)).max()
        assert lost <= LOSS.get(syntax, 0) and (lost > 0) == (syntax in LOSS), (syntax, lost)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_signed_values_with_bits_beside_them_are_read(syntax, source, run_import, tmp_path):
    values = np.arange(-1500, -1500 + 64 * 48).astype(np.int16).reshape(64, 48) // 2
    dataset = make_dicom("CT", PixelRepresentation=1, RescaleIntercept="0")
    stored = values.view(np.uint16) & 0xFFF  # two's complement of 12 bits (PS3.5 8.1.1)
    overlay = (stored | np.uint16(0x4000)).astype("<u2")  # an overlay in the bits beside them (PS3.5 8.1.2, retired)
    packed = stored if syntax == JPEGLosslessSV1 else overlay  # which has 12 bits
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([PACKED[syntax](packed)]), syntax
    dataset["PixelData"].is_undefined_length = True
    (source / "packed.dcm").write_bytes(as_bytes(dataset))
    native = make_dicom("CT", seed=1, PixelRepresentation=1, RescaleIntercept="0", PixelData=overlay.tobytes())
    (source / "plain.dcm").write_bytes(as_bytes(native))
    _, reasons = run_import()
    assert reasons == {"packed.dcm": "accepted", "plain.dcm": "duplicate"}
    (path,) = (tmp_path / "data" / "dicom").rglob("*.dcm")
    assert np.array_equal(read_image(path.read_bytes(), where="x").pixels, np.maximum(values, -1024))


@pytest.mark.parametrize("syntax", PACKED, ids=lambda uid: uid.keyword)
def test_a_stream_cut_short_is_no_image(syntax, tmp_path):
    stream = PACKED[syntax](grey_pixels(1).astype(np.uint16))
    for data, cut in ((stream, False), (stream + b"\0", False), (stream[: len(stream) * 2 // 3], True)):
        dataset = make_dicom("CT", PixelData=encapsulate([data]))
        dataset["PixelData"].is_undefined_length, dataset.file_meta.TransferSyntaxUID = True, syntax
        with pytest.raises(ImageError, match="DICOM file: ") if cut else nullcontext():
            read_image(as_bytes(dataset), where="x")


def bombs() -> dict[str, bytes]:
    """Small files that ask for gigabytes."""
    rle = make_dicom("CT")
    rle.compress(RLELossless, generate_instance_uid=False)
    rle.Rows = rle.Columns = 65535
    frames = make_dicom("CT", NumberOfFrames=1_000_000_000)
    head, tail = as_bytes(make_dicom()), bytes(80_000_000)
    meta = 144 + struct.unpack("<I", head[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain = head[:meta].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    deflated = struct.pack("<I", len(plain) - 144)
    packed = packer.compress(head[meta:]) + packer.compress(tail) + packer.flush()
    picture = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(picture, format="PNG")
    return {
        "rows.dcm": as_bytes(rle),
        "frames.dcm": as_bytes(frames),
        "deflated.dcm": plain[:140] + deflated + plain[144:] + packed,
        "picture.png": picture.getvalue(),
        "jpeg.dcm": swollen(JPEGBaseline8Bit, "JPEG", b"\xff\xc0\x00\x0b\x08", struct.pack(">HH", 65000, 65000)),
        "jpeg2000.dcm": swollen(
            JPEG2000Lossless, "JPEG2000", b"\xff\x51\x00\x29\x00\x00", struct.pack(">II", 60000, 60000)
        ),
    }


def swollen(syntax, kind: str, before: bytes, size: bytes) -> bytes:
    """A file whose header is small and whose stream says that it is huge."""
    picture = io.BytesIO()
    Image.fromarray(grey_pixels(1)).save(picture, format=kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
    stream = picture.getvalue()
    at = stream.index(before) + len(before)
    dataset = make_dicom("CT", BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.PixelData = encapsulate([stream[:at] + size + stream[at + len(size) :]])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
    return as_bytes(dataset)


def test_bombs_take_no_more_memory_than_an_image(source, run_import, tmp_path):
    (source / "sound.dcm").write_bytes(as_bytes(make_dicom()))
    with Watch(every_seconds=0.01) as plain:
        run_import()
    for name, data in bombs().items():
        assert len(data) < 1_000_000
        (source / name).write_bytes(data)
    table = pd.DataFrame({"file": ["picture.png"], "patient_id": ["P1"], "modality": ["mri"]})
    table.to_csv(tmp_path / "pictures.csv", index=False)
    with Watch(every_seconds=0.01) as bombed:
        _, reasons = run_import(pictures=tmp_path / "pictures.csv")
    assert reasons == {"sound.dcm": "accepted"} | dict.fromkeys(bombs(), "too_large")
    assert 0 < bombed.peak_bytes < plain.peak_bytes + 64_000_000  # not the gigabytes that they ask for


def judge_or_fail(items: list[Input], **options: Any) -> list[object]:
    """The judge, with a decoder that hangs or dies on some files."""
    hang_or_die([item.name.removesuffix(".dcm") for item in items])
    return check_headers(items, **options)


def test_what_hangs_or_dies_has_its_row_and_the_rest_is_imported(source, run_import, monkeypatch):
    for seed, name in enumerate(("die", "good", "hang")):
        (source / f"{name}.dcm").write_bytes(as_bytes(make_dicom(seed=seed)))
    monkeypatch.setattr(importer, "check_headers", judge_or_fail)
    monkeypatch.setattr(importer, "batch_by_size", lambda items, size: iter([Batch(list(items), 2.0)]))
    outcome, reasons = run_import()
    assert reasons == {"die.dcm": "crashed", "good.dcm": "accepted", "hang.dcm": "timeout"} and outcome.images == 1


def hang_or_die(items: list[str]) -> list[str]:
    """Stands for a decoder that hangs, dies or eats memory."""
    for item in items:
        if item == "hang":
            time.sleep(600)
        if item == "die":
            import os

            os._exit(1)
        if item == "eat":
            np.ones(2 << 30, np.uint8)
    return items


def test_what_hangs_dies_or_eats_memory_is_found_and_the_rest_goes_on():
    items = [f"good {number}" for number in range(6)]
    batches = [Batch(["good 0", "hang", "good 1"], 2.0), Batch(["good 2", "die"], 2.0), Batch(["eat", "good 3"], 2.0)]
    with open_workers(2) as pool:
        results = dict(chain.from_iterable(run_batches(pool, hang_or_die, [*batches, Batch(items[4:], 2.0)], ahead=2)))
    refused = {item: result.reason for item, result in results.items() if isinstance(result, RejectedInput)}
    assert refused == {"hang": "timeout", "die": "crashed", "eat": "crashed"}
    assert {item for item in results if item not in refused} == set(items)
    assert workers.MEMORY_BYTES == 1 << 30
