"""The files of a source, a folder or a zip archive: listed without reading them, read one at a time within bounds."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from osteo_models.core.errors import InputError

REASONS: Final[dict[str, str]] = {
    "not_an_image": "neither DICOM, PNG nor JPEG",
    "damaged": "cannot be read as what it says it is",
    "too_large": "would take more memory than an image may",
    "no_pixels": "holds no pixels",
    "unknown_encoding": "pixels are in an encoding that no decoder here knows",
    "colour": "is in colour",
    "other_modality": "neither MR nor CT",
    "secondary_capture": "a screen shot or other secondary capture",
    "burned_in": "says that text is burned into the pixels",
    "localizer": "a localizer",
    "other_body_part": "of another body part than the lumbar spine",
    "no_geometry": "does not say its spacing, orientation or position",
    "other_plane": "not sagittal, and no axial CT that could be reformatted",
    "other_weighting": "MR, but not T1-weighted",
    "no_scale": "CT without its scale to Hounsfield units",
    "short_series": "an axial CT series of too few or unevenly spaced slices for a sagittal reformat",
    "implausible": "spacing or size is out of any bounds of a spine image",
    "no_patient": "says no patient",
    "not_in_table": "its patient is not in the clinical table",
    "withdrawn": "its patient was withdrawn from the data set",
    "not_listed": "a picture that the table of pictures does not list",
    "duplicate": "has the same pixels as another accepted input",
    "timeout": "took too long to read",
    "crashed": "ended the process that read it, or ran out of its memory",
}
MAX_FILE_BYTES = 250_000_000
BOMB_BYTES = 16_000_000  # an archive's entry above this size, and packed tighter than any image can be, is refused
BOMB_RATIO = 100
ZIP = b"PK\x03\x04"
SOURCES = "a folder or a zip archive of DICOM, PNG or JPEG files"


class Refusal(Exception):
    """An input is refused, with one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Input:
    """One file of a source.

    Attributes:
        name: Within the source; it may hold anything, even a patient's name, and is never written into the data set.
        size: In bytes, as the source says.
        stamp: Changes when the file does.
        source: The folder or archive.
        entry: Its place in the archive, where two entries may have one name; -1 in a folder.
    """

    name: str
    size: int
    stamp: str
    source: Path
    entry: int = -1


def list_inputs(source: Path) -> Iterator[Input]:
    """Every file of a folder or zip archive, in the order of names; links are not followed.

    Raises:
        InputError: There is no such source, a folder of it cannot be listed, or the archive is damaged.
    """
    if source.is_dir():
        try:
            yield from _list_folder(source)
        except OSError as error:  # its own text names the file, and that may be somebody's name
            raise InputError(f"a folder that cannot be listed ({type(error).__name__})", where=str(source)) from None
    elif zipfile.is_zipfile(source):
        yield from _list_archive(source)
    else:
        raise InputError(_why_none(source), where=str(source), allowed=SOURCES)


def _why_none(source: Path) -> str:
    try:
        with source.open("rb") as file:
            cut = file.read(len(ZIP)) == ZIP
    except FileNotFoundError:
        return "no such folder or file"
    except OSError as error:
        return f"cannot be read ({type(error).__name__})"
    return "a damaged zip archive: it has no end" if cut else "neither a folder nor a zip archive"


def _list_folder(folder: Path, within: str = "") -> Iterator[Input]:
    """A folder at a time, so that the files of one, not of all, are held."""
    with os.scandir(folder / within) as entries:
        held = sorted(entries, key=lambda entry: entry.name)
    for entry in held:
        name = within + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _list_folder(folder, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            seen = entry.stat(follow_symlinks=False)
            yield Input(name, seen.st_size, f"{seen.st_size}-{seen.st_mtime_ns}", folder)


def _list_archive(archive: Path) -> Iterator[Input]:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = list(enumerate(opened.infolist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"a damaged zip archive ({type(error).__name__})", where=str(archive)) from None
    seen: Counter[str] = Counter()
    for number, entry in sorted(entries, key=lambda each: (each[1].filename, each[0])):
        if not entry.is_dir():
            seen[entry.filename] += 1
            again = f"\x1f{seen[entry.filename]}" if seen[entry.filename] > 1 else ""
            yield Input(entry.filename + again, entry.file_size, f"{entry.file_size}-{entry.CRC}", archive, number)


def read_input(item: Input) -> bytes:
    """The bytes of one input.

    Raises:
        Refusal: It is larger than any image may be, or cannot be read.
    """
    if item.size > MAX_FILE_BYTES:
        raise Refusal("too_large")
    try:
        if item.entry < 0:
            with (item.source / item.name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        else:
            data = _read_entry(item)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError):
        raise Refusal("damaged") from None
    if len(data) > MAX_FILE_BYTES:
        raise Refusal("too_large")
    return data


def _read_entry(item: Input) -> bytes:
    archive = _open_archive(item.source)
    entry = archive.infolist()[item.entry]
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(1, entry.compress_size):
        raise Refusal("too_large")
    with archive.open(entry) as file:
        return file.read(MAX_FILE_BYTES + 1)


@lru_cache(maxsize=1)
def _open_archive(path: Path) -> zipfile.ZipFile:
    # Kept open: the list of entries is read once per process, not once per file.
    return zipfile.ZipFile(path)
