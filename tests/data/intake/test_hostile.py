"""Broken and hostile files: every one gets its row, and nothing else happens."""

import io
import random
import struct
import time
import zlib

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from osteo_models.data.intake import workers
from osteo_models.data.intake.reading import judge_headers
from osteo_models.data.intake.refusal import REASONS, Refusal
from osteo_models.data.intake.sources import list_inputs
from osteo_models.data.intake.workers import Batch, open_workers, run_batches
from tests.data.intake_files import as_bytes, make_dicom

# Attributes that say how pixels are read, or what is taken over: a mutant of these may differ from its original.
USED = {
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "SamplesPerPixel", "PixelData", "NumberOfFrames", "Modality",
}  # fmt: skip


def encode(syntax: str, seed: int) -> bytes:
    """One slice in a transfer syntax."""
    dataset = make_dicom("CT", seed=seed)
    inner = pydicom.Dataset()
    inner.CodeValue = "1"
    for _ in range(4):
        outer = pydicom.Dataset()
        outer.ConceptNameCodeSequence = pydicom.Sequence([inner])
        inner = outer
    dataset.ProcedureCodeSequence = pydicom.Sequence([inner])
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif syntax == JPEGBaseline8Bit:
        picture = io.BytesIO()
        grey = np.random.default_rng(seed).integers(0, 255, (64, 48), dtype=np.uint8)
        Image.fromarray(grey).save(picture, format="JPEG")
        dataset.PixelData = encapsulate([picture.getvalue()])
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return as_bytes(dataset)


SYNTAXES = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit),
)


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, list[int]]:
    """Flip, overwrite, cut or double some bytes; gives where, or nothing where all offsets moved."""
    kind = rng.random()
    if kind < 0.1:
        return data[: rng.randrange(len(data))], []
    if kind < 0.15:
        at = rng.randrange(132, len(data))
        return data[:at] + data[at : at + rng.randrange(1, 64)] + data[at:], []
    changed = bytearray(data)
    header = kind < 0.8
    places = [rng.randrange(132, 1300) if header else rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 2, 8)))]
    for place in places:
        changed[place] = rng.randrange(256)
    return bytes(changed), places


def elements(data: bytes) -> list[tuple[int, str]]:
    """Where each element's value starts, in an uncompressed file."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    both = [*dataset.file_meta, *dataset]
    return sorted((element.file_tell, element.keyword) for element in both if element.file_tell is not None)


def check_mutants(count: int, source, run_import, tmp_path) -> None:
    rng = random.Random(11)
    originals = [encode(syntax, seed) for seed, syntax in enumerate(SYNTAXES)]
    starts = elements(originals[1])
    untouched: set[str] = set()
    for number in range(count):
        kind = number % len(SYNTAXES)
        data, places = mutate(originals[kind], rng)
        name = f"{number:05d}.dcm"
        (source / name).write_bytes(data)
        # The element that holds a place, or whose header comes right before its value.
        hit = {next((word for start, word in starts if start + 8 > place), "PixelData") for place in places}
        hit |= {next((word for start, word in reversed(starts) if start <= place), "") for place in places}
        if kind == 1 and places and not hit & USED:
            untouched.add(name)
    for seed, data in enumerate(originals):
        (source / f"original-{seed}.dcm").write_bytes(data)
    started = time.monotonic()
    outcome, reasons = run_import(workers=2)
    seconds = time.monotonic() - started
    assert outcome.inputs == len(reasons) == count + len(originals)
    assert set(reasons.values()) <= set(REASONS) | {"accepted"}
    assert {"accepted", "damaged"} <= set(reasons.values())
    assert not {"timeout", "crashed"} & set(reasons.values()), outcome.reasons
    assert seconds < 60 + 0.05 * count
    # An accepted mutant that touched nothing of use is the original's double; it may not be an image of its own.
    images = pd.read_csv(tmp_path / "data" / "images.csv", keep_default_na=False)
    own = set(images["input"])
    names = pd.read_csv(tmp_path / "key.names.csv", dtype=str).set_index("file")["input"]
    same = [name for name in untouched if names[name] in own and reasons[name] == "accepted"]
    assert len(same) <= 1, same  # the first of the doubles stands for the original
    assert len(untouched) > count / 60


def test_mutated_files_get_a_row_each(source, run_import, tmp_path):
    check_mutants(600, source, run_import, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_mutated_files_get_a_row_each(source, run_import, tmp_path):
    check_mutants(10_000, source, run_import, tmp_path)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_transfer_syntax_is_read(syntax, source, run_import):
    (source / "a.dcm").write_bytes(encode(syntax, 3))
    outcome, _ = run_import()
    assert outcome.accepted == 1, outcome.reasons


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
    }


def test_bombs_are_refused_at_once(source, run_import, tmp_path):
    for name, data in bombs().items():
        assert len(data) < 1_000_000
        (source / name).write_bytes(data)
    table = pd.DataFrame({"file": ["picture.png"], "patient_id": ["P1"], "modality": ["mri"]})
    table.to_csv(tmp_path / "pictures.csv", index=False)
    _, reasons = run_import(pictures=tmp_path / "pictures.csv")
    assert reasons == dict.fromkeys(bombs(), "too_large")
    for item in list_inputs(source):
        started = time.perf_counter()
        judge_headers([item])
        assert time.perf_counter() - started < 0.5, item.name  # generous: the machine may be busy


def hang_or_die(items: list[str]) -> list[str]:
    """Stands for a decoder that hangs, dies or eats memory."""
    for item in items:
        if item == "hang":
            time.sleep(60)
        if item == "die":
            import os

            os._exit(1)
        if item == "eat":
            np.ones(2 << 30, np.uint8)
    return items


def test_what_hangs_dies_or_eats_memory_is_found_and_the_rest_goes_on():
    items = [f"good {number}" for number in range(6)]
    batches = [Batch(["good 0", "hang", "good 1"], 2.0), Batch(["good 2", "die"], 2.0), Batch(["eat", "good 3"], 2.0)]
    started = time.monotonic()
    with open_workers(2) as pool:
        results = dict(run_batches(pool, hang_or_die, [*batches, Batch(items[4:], 2.0)], ahead=2))
    assert time.monotonic() - started < 40
    refused = {item: result.reason for item, result in results.items() if isinstance(result, Refusal)}
    assert refused == {"hang": "timeout", "die": "crashed", "eat": "crashed"}
    assert {item for item in results if item not in refused} == set(items)
    assert workers.MEMORY_BYTES == 1 << 30
