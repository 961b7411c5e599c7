"""Files of six transfer syntaxes, broken at random, and what may then differ in what is used of them."""

from __future__ import annotations

import io
import random
import warnings
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from osteo_models.data.dicom_file import parse_dicom
from osteo_models.data.intake.headers import read_header
from osteo_models.data.intake.slices import decode_slices
from tests.data.intake_files import as_bytes, make_dicom

SYNTAXES = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit),
)
# How the pixels of further ones are packed; lossy are JPEG's with 12 bits, and JPEG-LS's within 3.
PACKED = {
    JPEGLossless: lambda values: imagecodecs.jpeg8_encode(values, bitspersample=12, lossless=True, predictor=6),
    JPEGLosslessSV1: lambda values: imagecodecs.jpeg8_encode(values, bitspersample=12, lossless=True, predictor=1),
    JPEGExtended12Bit: lambda values: imagecodecs.jpeg8_encode(values, level=95, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLSNearLossless: lambda values: imagecodecs.jpegls_encode(values, level=3),
    JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"),
}
LONG_HEADS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")  # PS3.5 7.1.2
# The attributes that decide each fact that is used of a file: a fact may differ from the original's when one of these
# is read otherwise, and never else.
DECIDED_BY = {
    "modality": {"Modality"},
    "patient": {"PatientID", "SpecificCharacterSet"},
    "study": {"StudyInstanceUID", "PatientID", "SpecificCharacterSet"},
    "series": {"SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "PatientID", "SpecificCharacterSet"},
    "instance": {"SOPInstanceUID", "MediaStorageSOPInstanceUID"},
    "spacing": {"PixelSpacing", "NumberOfFrames"},
    "orientation": {"ImageOrientationPatient", "NumberOfFrames"},
    "position": {"ImagePositionPatient", "NumberOfFrames"},
    "thickness": {"SliceThickness"},
    "technique": {"RepetitionTime", "EchoTime", "MagneticFieldStrength", "KVP"},
    "vendor": {"Manufacturer", "SpecificCharacterSet"},
    "frames": {"NumberOfFrames"},
    "pixels": {
        *("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
        *("PhotometricInterpretation", "SamplesPerPixel", "NumberOfFrames", "RescaleSlope", "RescaleIntercept"),
        *("ModalityLUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit", "Modality", "TransferSyntaxUID"),
    },
}
ATTRIBUTES = frozenset().union(*DECIDED_BY.values())


@dataclass(frozen=True)
class Change:
    """What was done to a file: bytes overwritten at places, or everything from a place on cut or moved."""

    places: list[int] = field(default_factory=list)
    moved: bool = False


@dataclass(frozen=True)
class Element:
    """Where an element lies in a file: from its tag, from its value, to its end."""

    keyword: str
    start: int
    value: int
    end: int
    nested: bool


def encode(syntax: str, seed: int) -> bytes:
    """One slice in a transfer syntax, with sequences five deep."""
    dataset = make_dicom("CT", seed=seed)
    inner = pydicom.Dataset()
    inner.CodeValue = "1"
    for _ in range(4):
        outer = pydicom.Dataset()
        outer.ConceptNameCodeSequence = pydicom.Sequence([inner])
        inner = outer
    dataset.ProcedureCodeSequence = pydicom.Sequence([inner])
    if syntax in PACKED:
        dataset.PixelData = encapsulate([PACKED[syntax](grey_pixels(seed).astype(np.uint16) * 11)])
        dataset["PixelData"].is_undefined_length = True
    elif syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif syntax == JPEGBaseline8Bit:
        picture = io.BytesIO()
        Image.fromarray(grey_pixels(seed)).save(picture, format="JPEG")
        dataset.PixelData = encapsulate([picture.getvalue()])
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return as_bytes(dataset)


def grey_pixels(seed: int) -> np.ndarray:
    """What the JPEG slices are of: smooth, so that a lossy encoding keeps it nearly."""
    rows, columns = np.mgrid[0:64, 0:48]
    return (120 + 60 * np.sin(rows / 9 + seed) + 50 * np.cos(columns / 7)).astype(np.uint8)


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, Change]:
    """Overwrite, cut or double some bytes."""
    kind = rng.random()
    if kind < 0.1:
        return data[: rng.randrange(len(data))], Change(moved=True)
    if kind < 0.15:
        at = rng.randrange(132, len(data))
        return data[:at] + data[at : at + rng.randrange(1, 64)] + data[at:], Change(moved=True)
    changed = bytearray(data)
    header = kind < 0.8
    places = [rng.randrange(132, 1300) if header else rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 2, 8)))]
    for place in places:
        changed[place] = rng.randrange(256)
    return bytes(changed), Change(places)


def list_elements(data: bytes) -> list[Element]:
    """The elements of a file's top level, as they lie in it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    found = sorted((each for each in (*dataset.file_meta, *dataset)), key=lambda each: each.file_tell)
    heads = [12 if each.VR in LONG_HEADS and not (implicit and each.tag.group != 2) else 8 for each in found]
    starts = [each.file_tell - head for each, head in zip(found, heads, strict=True)]
    ends = [*starts[1:], len(data)]
    return [
        Element(each.keyword, start, each.file_tell, end, each.VR == "SQ" or each.tag.group == 2)
        for each, start, end in zip(found, starts, ends, strict=True)
    ]


def reach_of(change: Change, elements: list[Element]) -> frozenset[str]:
    """The attributes that a change can reach.

    Bytes of a value reach that attribute alone. A tag, representation or length, a nested element, or a byte of the
    file meta says how the rest is to be read, so it reaches all.
    """
    if change.moved:
        return ATTRIBUTES
    reached: set[str] = set()
    for place in change.places:
        (hit,) = [each for each in elements if each.start <= place < each.end] or [None]
        if hit is None or hit.nested or place < hit.value:
            return ATTRIBUTES
        reached.add(hit.keyword)
    return frozenset(reached)


def read_facts(data: bytes) -> dict[str, object]:
    """What is used of a file, as intake reads it."""
    dataset = parse_dicom(data)
    header = read_header(dataset)
    slices = list(decode_slices(dataset, header))
    return {
        **{name: getattr(header, name) for name in ("patient", "study", "series", "instance")},
        **{name: getattr(header.acquisition, name) for name in ("modality", "technique", "vendor")},
        "frames": len(slices),
        "spacing": [plane.spacing_mm for plane in header.planes],
        "orientation": [plane.orientation for plane in header.planes],
        "position": [plane.position_mm for plane in header.planes],
        "thickness": header.acquisition.thickness_mm,
        "pixels": [each.digest for each in slices],
    }


def read_raw(data: bytes) -> dict[str, object]:
    """The undecoded values of the attributes that decide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data))
    found: dict[str, object] = {}
    for keyword in ATTRIBUTES:
        tag = Tag(keyword)
        place = dataset.file_meta if tag.group == 2 else dataset
        element = place.get_item(tag) if tag in place else None
        found[keyword] = None if element is None else (element.VR, element.value)
    return found


def explain(original: bytes, mutant: bytes, reach: frozenset[str]) -> tuple[set[str], set[str]]:
    """The facts in which a mutant differs: those that a rule explains, and those that none does."""
    before, after = read_facts(original), read_facts(mutant)
    raw_before, raw_after = read_raw(original), read_raw(mutant)
    changed = {name for name in ATTRIBUTES if raw_before[name] != raw_after[name]} & reach
    different = {name for name in before if before[name] != after[name]}
    ruled = {name for name in different if DECIDED_BY[name] & changed}
    return ruled, different - ruled
