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
from osteo_models.data.dicom_file import RejectedInput

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


@dataclass(frozen=True)
class Input:
    """One file of a source.

    Attributes:
        name: Path within the source; it may hold a patient's name, and is never written into the data set.
        size: Bytes, as the source records.
        stamp: Changes when the file does.
        source: The folder or archive.
        entry: Index in the archive, where two entries may have one name; -1 in a folder.
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
        except OSError as error:  # its own text names the file, which may contain a patient's name
            raise InputError(f"a folder that cannot be listed ({type(error).__name__})", where=str(source)) from None
    elif zipfile.is_zipfile(source):
        yield from _list_archive(source)
    else:
        raise InputError(_describe_unusable(source), where=str(source), allowed=SOURCES)


def _describe_unusable(source: Path) -> str:
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
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        name = within + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _list_folder(folder, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            yield Input(name, status.st_size, f"{status.st_size}-{status.st_mtime_ns}", folder)


def _list_archive(archive: Path) -> Iterator[Input]:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = list(enumerate(opened.infolist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"a damaged zip archive ({type(error).__name__})", where=str(archive)) from None
    seen: Counter[str] = Counter()
    for number, entry in sorted(entries, key=lambda numbered: (numbered[1].filename, numbered[0])):
        if not entry.is_dir():
            seen[entry.filename] += 1
            again = f"\x1f{seen[entry.filename]}" if seen[entry.filename] > 1 else ""
            yield Input(entry.filename + again, entry.file_size, f"{entry.file_size}-{entry.CRC}", archive, number)


def read_input(file: Input) -> bytes:
    """The bytes of one input.

    Raises:
        RejectedInput: It is larger than any image may be, or cannot be read.
    """
    if file.size > MAX_FILE_BYTES:
        raise RejectedInput("too_large")
    try:
        if file.entry < 0:
            with (file.source / file.name).open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
        else:
            data = _read_entry(file)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError):
        raise RejectedInput("damaged") from None
    if len(data) > MAX_FILE_BYTES:
        raise RejectedInput("too_large")
    return data


def _read_entry(file: Input) -> bytes:
    archive = _open_archive(file.source)
    entry = archive.infolist()[file.entry]
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(1, entry.compress_size):
        raise RejectedInput("too_large")
    with archive.open(entry) as opened:
        return opened.read(MAX_FILE_BYTES + 1)


@lru_cache(maxsize=1)
def _open_archive(path: Path) -> zipfile.ZipFile:
    # Kept open: the list of entries is read once per process, not once per file.
    return zipfile.ZipFile(path)
