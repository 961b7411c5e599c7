"""Search for identifying data in a data set, independently of how it was de-identified.

Values are checked by their representation, without a list of attributes: text must be one of a few known words,
identifiers must be ours, dates must be absent, and private, nested or trailing data must not exist. Pixels are searched
for letters where their absence is not stated.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataelem import DataElement

from osteo_models.data.data_folder import IMAGES, VERTEBRAE
from osteo_models.data.dicom_file import is_dicom
from osteo_models.data.image_file import is_picture
from osteo_models.data.intake.burned_in_text import has_letters

WORDS: Final = frozenset([
    *("MR", "CT", "DERIVED", "PRIMARY", "OTHER", "AXIAL", "YES", "NO", "REMOVED", "LSPINE", "RM", "NONE"),
    *("MONOCHROME2", "HU", "M", "F", "2D", "3D", "DCM", "113100", "113108", "OSTEO_INTAKE_1"),
    *("SIEMENS", "GE MEDICAL", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "FUJIFILM", "UNITED IMAGING"),
])  # fmt: skip
PSEUDONYM: Final = re.compile(r"[0-9a-f]{8,16}\Z")
KNOWN_UID: Final = re.compile(r"(2\.25\.[0-9]{1,39}|1\.2\.840\.10008(\.[0-9]+)+)\Z")
AGE: Final = re.compile(r"0([0-8][0-9]|90)Y\Z")
KNOWN_TEXTS: Final = (
    "Listed attributes only; keyed pseudonyms; dates removed",
    "Basic Application Confidentiality Profile",
    "Retain Patient Characteristics Option",
)
TEMPORAL: Final = ("DA", "DT", "TM")
TEXTS: Final = ("CS", "SH", "LO", "LT", "ST", "UT", "UC", "UR")
PIXELS: Final = ("OW", "OB")
FILE_NAME: Final = re.compile(r"(mri|ct)-[0-9a-f]{16}\.(dcm|png)\Z")


def find_identity(data: Path) -> list[str]:
    """Where the images and label maps of a data set could name a person: file and attribute, never the value."""
    found: list[str] = []
    files = sorted(path for name in (IMAGES, VERTEBRAE) for path in (data / name).rglob("*") if path.is_file())
    for number, path in enumerate(files, start=1):
        named = PSEUDONYM.match(path.parent.name) and FILE_NAME.match(path.name)
        where = f"{path.parent.name}/{path.name}" if named else f"file {number}"
        if not named:
            found.append(f"{where}: its name is no pseudonym")
        found += [f"{where}: {what}" for what in find_in_file(path.read_bytes())]
    return found


def find_in_file(data: bytes) -> list[str]:
    """The same for the bytes of one image file."""
    if is_picture(data):
        return _find_in_picture(data)
    if not is_dicom(data):
        return ["not an image"]
    faults = [] if data[:128] == bytes(128) else ["preamble: not empty"]
    dataset = pydicom.dcmread(io.BytesIO(data))
    for source in (dataset.file_meta, dataset):
        for element, depth in _elements(source):
            faults += _judge(element, depth)
    if "PixelData" in dataset and dataset.get("BurnedInAnnotation") != "NO" and has_letters(dataset.pixel_array):
        faults.append("pixels: seem to have letters")
    return faults + ([] if _ends_with_pixels(data, dataset) else ["bytes after the last element"])


def _find_in_picture(data: bytes) -> list[str]:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        faults = [f"picture metadata: {len(picture.info)} entries"] if picture.info else []
        return faults + (["pixels: seem to have letters"] if has_letters(np.asarray(picture.convert("L"))) else [])


def _elements(dataset: pydicom.Dataset, depth: int = 0) -> Iterator[tuple[DataElement, int]]:
    for element in dataset:
        yield element, depth
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item, depth + 1)


def _judge(element: DataElement, depth: int) -> list[str]:
    where = f"({element.tag.group:04x},{element.tag.element:04x})"
    if element.tag.is_private:
        return [f"{where}: private"]
    if depth > 1:
        return [f"{where}: nested {depth} deep"]
    if (element.tag.group & 0xFF00) in (0x5000, 0x6000):
        return [f"{where}: overlay or curve"]
    values = element.value if element.VM > 1 else [element.value]
    texts = (
        [str(value) for value in values if value not in (None, "", b"")] if element.VR not in (*PIXELS, "SQ") else []
    )
    return [f"{where}: {why}" for text in texts if (why := _find_reason(element.VR, text))]


def _find_reason(vr: str, text: str) -> str:
    """Why a value of this representation (PS3.5 6.2) could name a person; empty when it could not."""
    if vr in TEMPORAL:
        return "a date or time"
    if vr == "PN":
        return "a name"
    if vr == "UI":
        return "" if KNOWN_UID.match(text) else "an identifier that is not ours"
    if vr == "AS":
        return "" if AGE.match(text) else "an age over 90"
    if vr in TEXTS:
        return "" if text in KNOWN_TEXTS or text in WORDS or PSEUDONYM.match(text) else "free text"
    if vr in ("DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AT"):
        return "" if re.match(r"-?[0-9.]{1,16}(e-?[0-9]+)?\Z", text) else "no number"
    return "" if vr == "OB" else f"a value of the kind {vr}"


def _ends_with_pixels(data: bytes, dataset: pydicom.Dataset) -> bool:
    pixels = dataset.get("PixelData")
    return pixels is not None and data.endswith(bytes(pixels))
