"""The files of a source, a folder or a zip archive: listed without reading them, read one at a time within bounds."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from osteo_models.core.errors import InputError
from osteo_models.data.reasons import RejectedInput

MAX_FILE_BYTES = 250_000_000
BOMB_BYTES = 16_000_000  # an archive's entry above this size, and packed tighter than any image can be, is refused
BOMB_RATIO = 100
ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"
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
        archive: Path within the source of the archive that the file is in, where the source is a folder.
        fault: Why the file cannot be opened; a key of `REASONS`, or empty.
    """

    name: str
    size: int
    stamp: str
    source: Path
    entry: int = -1
    archive: str = ""
    fault: str = ""


def list_inputs(source: Path) -> Iterator[Input]:
    """Every file of a folder or zip archive, and of the archives in a folder, in the order of names.

    A link to a file of the same source is that file again; any other link is listed with its fault.

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
    try:
        with os.scandir(folder / within) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not within or error.errno != errno.ENAMETOOLONG:
            raise
        yield Input(within, 0, "", folder, fault="long_path")
        return
    for entry in ordered:
        name = within + entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _list_folder(folder, f"{name}/")
            elif entry.is_symlink() and not _is_link_within(folder, name):
                yield Input(name, 0, "", folder, fault="link")
            elif entry.is_file():
                status = entry.stat()
                stamp = f"{status.st_size}-{status.st_mtime_ns}"
                file = Input(name, status.st_size, stamp, folder)
                yield from _list_inner_archive(file) if name.lower().endswith(".zip") else [file]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield Input(name, 0, "", folder, fault="long_path")


def _is_link_within(folder: Path, name: str) -> bool:
    """Whether a link leads to a file of the source; links to folders are not followed, as these are listed anyway."""
    target = (folder / name).resolve()
    return target.is_file() and target.is_relative_to(folder.resolve())


def _list_inner_archive(file: Input) -> Iterator[Input]:
    try:
        for inner in _list_archive(file.source / file.name):
            yield replace(inner, name=f"{file.name}/{inner.name}", source=file.source, archive=file.name)
    except InputError:
        yield replace(file, fault="damaged_archive")


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
    """The bytes of one input, unpacked where it is a gzip file.

    Raises:
        RejectedInput: It is larger than any image may be, or cannot be read.
    """
    if file.fault:
        raise RejectedInput(file.fault)
    if file.size > MAX_FILE_BYTES:
        raise RejectedInput("too_large")
    try:
        if file.entry < 0:
            with (file.source / file.name).open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
        else:
            data = _read_entry(file)
        if data[:2] == GZIP:
            data = _unpack(data)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError):
        raise RejectedInput("damaged_archive" if file.entry >= 0 else "damaged") from None
    if len(data) > MAX_FILE_BYTES:
        raise RejectedInput("too_large")
    return data


def _unpack(data: bytes) -> bytes:
    """A gzip file, within the bounds of an archive's entry."""
    limit = min(MAX_FILE_BYTES, max(BOMB_BYTES, BOMB_RATIO * len(data)))
    unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, limit + 1)
    if len(unpacked) > limit:
        raise RejectedInput("too_large")
    return unpacked


def _read_entry(file: Input) -> bytes:
    archive = _open_archive(file.source / file.archive)
    entry = archive.infolist()[file.entry]
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(1, entry.compress_size):
        raise RejectedInput("too_large")
    with archive.open(entry) as opened:
        return opened.read(MAX_FILE_BYTES + 1)


@lru_cache(maxsize=1)
def _open_archive(path: Path) -> zipfile.ZipFile:
    # Kept open: the list of entries is read once per process, not once per file.
    return zipfile.ZipFile(path)
