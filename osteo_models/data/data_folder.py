"""Changing a data set: one process at a time builds the successor next to it, then exchanges the two.

Killed anywhere, the data set is the old or the new one. Whatever decides the successor is read while the lock is held.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from osteo_models.core.errors import InputError, OsteoError, ParamsError
from osteo_models.core.files import hold_lock
from osteo_models.core.params import PARAMS_FILE, Data

IMAGES: Final = "dicom"  # images: <patient_id>/<name>.dcm, .png or .jpg
VERTEBRAE: Final = "vertebrae"  # optional label maps: <patient_id>/<name>.png, 1 to 5 in the bodies of L1 to L5
INTAKE = "intake.csv"  # in every data set that was imported


class Staging:
    """The folders next to a data set, on the same disk, so that each step of the exchange is one rename.

    The lock file is next to the data set too and is never deleted: a lock on a deleted file protects nothing.

    Attributes:
        out: The data set; a link to it names the same data set.
        lock_file: Locked by the process that changes the data set.
        import_log: State of an import that can be continued.
        images: Images that such an import has written.
        building: The successor while it is built.
    """

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.lock_file = self.out.with_name(f".{self.out.name}.lock")
        self._folder = self.out.with_name(f".{self.out.name}.importing")
        self._before = self.out.with_name(f".{self.out.name}.before")
        self.import_log, self.images = self._folder / "import-log.sqlite", self._folder / "images"
        self.building, self._ready = self._folder / "building", self._folder / "ready"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from changing the data set; an interrupted exchange is completed first.

        Raises:
            InputError: The data set cannot be made here.
            OsteoError: Another process is changing it.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(
                    hold_lock(
                        self.lock_file,
                        seconds=0,
                        where=str(self.out),
                        found="another command is changing the data set",
                        remedy="wait for it, then run this one again",
                    )
                )
                self._recover()
            except OSError as error:
                found = f"nothing can be written beside it ({type(error).__name__})"
                raise InputError(found, where=str(self.out), remedy="name another folder") from None
            # Under the lock: an exchange by another process takes the folder away for a moment.
            if self.out.exists() and not self.out.is_dir():
                raise InputError("a file, not a folder", where=str(self.out), remedy="name another folder")
            yield

    def prepare(self) -> None:
        """Make the folder that the successor is built in."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / ".gitignore").write_text("*\n", encoding="utf-8")  # the log holds names of patients' files

    @contextlib.contextmanager
    def build(self) -> Iterator[Path]:
        """Build the successor in a folder that the caller makes, then exchange; after an error everything is removed.

        A killed import then starts again.
        """
        self.clear()
        self.prepare()
        try:
            yield self.building
        except BaseException:
            self.clear()
            raise
        self.exchange()

    def copy(self, *, without: str = "") -> None:
        """Start the successor as a copy of the data set, with hard links to its files.

        Args:
            without: Leave out the images and label maps of this patient.
        """
        for folder in (self.building, self._ready):
            _remove(folder)
        if self.out.exists():
            folders = {str(self.out / name) for name in (IMAGES, VERTEBRAE)}
            shutil.copytree(
                self.out,
                self.building,
                copy_function=link_file,
                symlinks=True,
                ignore=lambda folder, names: {without} & set(names) if folder in folders else set(),
            )
        (self.building / IMAGES).mkdir(parents=True, exist_ok=True)

    def exchange(self) -> None:
        """Replace the data set by the successor, and remove what is left next to it."""
        self.building.rename(self._ready)
        if self.out.exists():
            self.out.rename(self._before)
        self._ready.rename(self.out)
        self.clear()

    def clear(self) -> None:
        """Remove what is left next to the data set."""
        for folder in self._leftovers():
            _remove(folder)

    def find_leftovers(self) -> list[Path]:
        """What a killed command left next to the data set; empty while a command is changing it."""
        if not self._leftovers():
            return []
        try:
            with hold_lock(self.lock_file, seconds=0):
                return self._leftovers()
        except OsteoError:
            return []

    def _leftovers(self) -> list[Path]:
        return [folder for folder in (self._before, self._folder) if folder.exists()]

    def _recover(self) -> None:
        """Complete an interrupted exchange: forwards where the successor is complete, else back."""
        if self._before.exists() and not self.out.exists():
            (self._ready if self._ready.exists() else self._before).rename(self.out)
        _remove(self._before)


def link_file(source: str, target: str) -> str:
    """Hard-link a file; copy it where the file system has no links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no table."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table of a successor as a new file: the old one may be linked from the data set or DVC's cache."""
    path.unlink(missing_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def check_not_imported(root: Path, data: Data) -> None:
    """Check that params.yaml does not call an imported data set synthetic.

    Raises:
        ParamsError: It does.
    """
    if data.synthetic is not None and (root / data.path / INTAKE).is_file():
        found = f"`data.synthetic` is set, but {data.path} was imported: it has {INTAKE}"
        remedy = f"take `data.synthetic` out of {PARAMS_FILE}"
        raise ParamsError(found, where=PARAMS_FILE, remedy=remedy)
