"""A store that all machines of a cluster share: checkpoints and results of trials, features of frozen networks.

Without one, the folder of jobs itself is what every worker must reach. A store's object is written whole or not at
all, and what lies there is checked by checksum when it is read, so a kill leaves nothing that misleads.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.files import write_atomically
from osteo_models.core.processes import is_gone, name_process
from osteo_models.training.results import (
    RESULT,
    SCORES,
    WEIGHTS,
    FoldResult,
    fold_folder,
    fold_name,
    read_result,
)

SETTING = "OSTEO_JOBS_URI"
TRIAL = "osteo-trial-"  # begins the names of trials' folders on their own machine; that of the process follows
ALLOWED = "s3://bucket/folder, or file:///folder where all machines see the same folder"


@dataclass(frozen=True)
class Shelf:
    """A folder of the store; workers get its address alone, and their credentials from their own environment."""

    uri: str

    def __truediv__(self, name: str) -> Shelf:
        return Shelf(f"{self.uri}/{name}")

    def check(self) -> None:
        """Make sure that the store answers and has the bucket."""
        with self._explain():
            bucket = urlsplit(self.uri).netloc
            if self._files.get_file_info(bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket `{bucket}`")

    def list_names(self) -> list[str]:
        """The files that lie here, by name."""
        with self._explain():
            found = self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
            return sorted(item.base_name for item in found if item.type == fs.FileType.File)

    def fetch(self, name: str, folder: Path) -> None:
        """Copy a file from here into a folder."""
        with self._explain():
            with self._files.open_input_stream(f"{self._path}/{name}") as stream:
                content = stream.read()
            write_atomically(folder / name, content)

    def put(self, path: Path) -> None:
        """Copy a file to here."""
        content = path.read_bytes()
        with self._explain(), self._files.open_output_stream(f"{self._path}/{path.name}") as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._explain():
            try:
                self._files.delete_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return

    def clear(self) -> None:
        """Remove this folder and what lies below it."""
        with self._explain():
            self._files.delete_dir_contents(self._path, missing_dir_ok=True)

    @property
    def _files(self) -> fs.FileSystem:
        return _connect(urlsplit(self.uri).netloc)

    @property
    def _path(self) -> str:
        parts = urlsplit(self.uri)
        return f"{parts.netloc}{parts.path}"

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = f"check {SETTING}, AWS_ENDPOINT_URL and the AWS_* credentials, here and on the workers"
            found = " ".join(str(error).split()).removesuffix(".")
            raise StoreError(f"the store of jobs cannot be used ({found})", where=self.uri, remedy=remedy) from error


@functools.cache
def _connect(bucket: str) -> fs.FileSystem:
    # By its address, and not by its class: only so does the library read AWS_ENDPOINT_URL; it reads keys in any case.
    return fs.FileSystem.from_uri(f"s3://{bucket}")[0]


def open_shelf(uri: str | None) -> Shelf | None:
    """The store at an address; None where there is none.

    Raises:
        InputError: The address is of another kind, or holds credentials.
        StoreError: The store cannot be used.
    """
    if uri is None:
        return None
    parts = urlsplit(uri)
    if parts.username or parts.password or parts.query:
        remedy = "keep them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, here and on the workers"
        raise InputError("the address holds more than a place, such as credentials", where=SETTING, remedy=remedy)
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError(f"`{uri}` is no shared store", where=SETTING, allowed=ALLOWED)
    shelf = Shelf(uri.rstrip("/"))
    shelf.check()
    return shelf


class Drawer:
    """A trial's own folder: the one given, or, where there is a shelf, a copy of that, brought up to date by `keep`.

    Such a copy goes with its trial; one whose process was killed is removed by the next trial on its machine.

    Args:
        folder: On a disk that every worker reaches; unused where there is a shelf.
        shelf: Where the trial's files lie between workers.
    """

    def __init__(self, folder: Path, shelf: Shelf | None) -> None:
        self._shelf, self._kept = shelf, dict[str, int]()
        self.folder = folder
        if shelf is None:
            folder.mkdir(parents=True, exist_ok=True)
            return
        _remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{TRIAL}{name_process()}-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        for name in shelf.list_names():
            shelf.fetch(name, self.folder)
        self._kept = self._stamps()

    def keep(self) -> None:
        """Bring the shelf to what the folder holds: first what is new, the result last, then what is gone."""
        if self._shelf is None:
            return
        stamps = self._stamps()
        for name in sorted(stamps, key=lambda name: (name == RESULT, stamps[name])):
            if self._kept.get(name) != stamps[name]:
                self._shelf.put(self.folder / name)
        for name in self._kept.keys() - stamps.keys():
            self._shelf.remove(name)
        self._kept = stamps

    def _stamps(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir()}


def _remove_left() -> None:
    """Remove the folders of trials whose process is gone."""
    for left in Path(tempfile.gettempdir()).glob(f"{TRIAL}*"):
        with contextlib.suppress(ValueError):  # not one of ours
            if is_gone(left.name.removeprefix(TRIAL).rpartition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)


def find_result(folder: Path, shelf: Shelf | None, key: str, fold: int) -> FoldResult | None:
    """The result of a finished trial, from the folder of all jobs, or copied into it from the shelf.

    Returns:
        None where the trial is unfinished, or its files do not match their checksums.
    """
    place = fold_folder(folder, key, fold)
    found = read_result(place)
    if found is None and shelf is not None:
        there = shelf / key / fold_name(fold)
        names = (WEIGHTS, SCORES, RESULT)
        if set(names) <= set(there.list_names()):
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                there.fetch(name, place)
            found = read_result(place)
    return found


def check_reach(folder: Path, shelf: Shelf | None) -> None:
    """Make sure, on a worker, that the driver will find what is written here.

    Raises:
        StoreError: The folder of jobs is not on this machine, and there is no shelf.
    """
    if shelf is None and not folder.is_dir():
        remedy = f"set {SETTING} to a store that all machines share"
        raise StoreError(
            "a worker does not reach the folder of jobs", where=str(folder), allowed=ALLOWED, remedy=remedy
        )
