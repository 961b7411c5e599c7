"""Earlier revisions of the data set, read from git and the DVC cache."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from osteo_models.core.errors import ImageError, InputError, StoreError
from osteo_models.data.data_folder import IMAGES
from osteo_models.data.dicom_file import is_dicom, parse_dicom
from osteo_models.data.image_file import SourceImage, read_image
from osteo_models.data.reasons import RejectedInput
from osteo_models.data.revisions import find_cache, find_object, read_committed, read_listing
from osteo_models.data.tables import read_frame

SPLITS = "artifacts/splits/splits.csv"


@dataclass(frozen=True)
class Revision:
    """One revision of the data set.

    Attributes:
        name: The git revision; `workspace` is what `data.dvc` on disk records.
        digest: MD5 of the data set.
        files: MD5 of every file, by its path in the data set.
        splits: The splits made from it; None where `dvc.lock` records none.
        cache: DVC's cache.
    """

    name: str
    digest: str
    files: Mapping[str, str]
    splits: pd.DataFrame | None
    cache: Path = field(repr=False)

    def read(self, path: str) -> bytes:
        """A file of this revision.

        Raises:
            StoreError: It is not in the DVC cache.
        """
        return self.locate(path).read_bytes()

    def locate(self, path: str) -> Path:
        """Path of a file of this revision in the cache; read only.

        Raises:
            StoreError: It is not in the DVC cache.
        """
        return _locate_object(self.cache, self.files[path], f"{self.name}: {path}")


def load_revision(root: Path, data: str, name: str | None = None) -> Revision:
    """A revision by git's name for it; without one, what is recorded on disk.

    Raises:
        InputError: git knows no such revision, or it records no data set; or the project is not under DVC.
        StoreError: The DVC cache does not hold it.
    """
    record = _read_yaml(root, f"{data}.dvc", name)
    try:
        digest = str(record["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError):
        found = f"{data}.dvc records no data set"
        raise InputError(found, where=name or "workspace", allowed="a revision made after `dvc add`") from None
    cache = find_cache(root)
    if cache is None:
        raise InputError("not under DVC", where=str(root), remedy="run `dvc init`, then record the data set")
    files = read_listing(cache, digest)
    if files is None:
        raise _missing_object(f"{name or 'workspace'}: {data}")
    return Revision(name or "workspace", digest, files, _read_splits(root, data, digest, name, cache), cache)


def require_splits(root: Path, data: Path) -> None:
    """Check that a data set that is about to change has its splits on disk: without them all patients are dealt again.

    Raises:
        InputError: `dvc.lock` records splits, and they are not there.
    """
    if not (data / IMAGES).is_dir() or (root / SPLITS).is_file():
        return
    try:
        outs = [entry["path"] for entry in _read_yaml(root, "dvc.lock", None)["stages"]["splits"]["outs"]]
    except (InputError, KeyError, TypeError):
        return
    if SPLITS in outs:
        remedy = f"get them with `dvc pull {SPLITS}`, or delete dvc.lock to split all patients again"
        raise InputError("the splits that dvc.lock records are not on disk", where=SPLITS, remedy=remedy)


def _read_yaml(root: Path, path: str, name: str | None) -> Any:
    if name is None:
        try:
            return yaml.safe_load((root / path).read_text(encoding="utf-8"))
        except OSError:
            raise InputError("file not found", where=path, remedy="record the data set with `dvc add`") from None
    text = read_committed(root, name, path)
    if text is None:
        remedy = "name a commit, a tag or a branch"
        raise InputError(f"git has no {path} in the revision {name!r}", where=str(root), remedy=remedy)
    return yaml.safe_load(text)


def _read_splits(root: Path, data: str, digest: str, name: str | None, cache: Path) -> pd.DataFrame | None:
    """The splits that `dvc.lock` records, unless they were made from another revision than this."""
    try:
        stage = _read_yaml(root, "dvc.lock", name)["stages"]["splits"]
        made_from, outs = ({entry["path"]: str(entry["md5"]) for entry in stage[kind]} for kind in ("deps", "outs"))
        if made_from[data] != digest:
            return None
        content = _locate_object(cache, outs[SPLITS], SPLITS).read_bytes()
    except (InputError, StoreError, KeyError, TypeError):
        return None
    return read_frame(io.BytesIO(content))


def _locate_object(cache: Path, digest: str, what: str) -> Path:
    path = find_object(cache, digest)
    if not path.is_file():
        raise _missing_object(what)
    return path


def _missing_object(what: str) -> StoreError:
    return StoreError("not in the DVC cache", where=what, remedy="get it with `dvc fetch --all-commits`")


@dataclass(frozen=True)
class ImageChanges:
    """Paths in the data set; changed images by their newer name."""

    added: list[str]
    removed: list[str]
    pixels: list[str]
    header: list[str]


def list_images(revision: Revision) -> dict[str, str]:
    """MD5 of every image file, by its path."""
    return {path: digest for path, digest in revision.files.items() if path.startswith(f"{IMAGES}/")}


def find_patient(path: str) -> str:
    """Whose image a path is."""
    return path.split("/")[1]


def compare_images(before: Revision, after: Revision) -> ImageChanges:
    """Compare the images of two revisions; only those whose bytes differ are read.

    Raises:
        StoreError: A changed file is not in the DVC cache.
    """
    old, new = list_images(before), list_images(after)
    pairs = {path: path for path in old.keys() & new.keys() if old[path] != new[path]}
    pairs |= _find_renamed(before, after, old.keys() - new.keys(), new.keys() - old.keys())
    pixels = {path for path, earlier in pairs.items() if _pixels_differ(before.read(earlier), after.read(path))}
    return ImageChanges(
        added=sorted(new.keys() - old.keys() - pairs.keys()),
        removed=sorted(old.keys() - new.keys() - set(pairs.values())),
        pixels=sorted(pixels),
        header=sorted(pairs.keys() - pixels),
    )


def _find_renamed(before: Revision, after: Revision, gone: Iterable[str], come: Iterable[str]) -> dict[str, str]:
    """The earlier name of images that a patient had before, by their name now."""
    left, arrived = _by_patient(gone), _by_patient(come)
    pairs: dict[str, str] = {}
    for patient in left.keys() & arrived.keys():
        old = {path: _fingerprints(before.read(path)) for path in left[patient]}
        new = {path: _fingerprints(after.read(path)) for path in arrived[patient]}
        for kind in range(2):  # equal pixels first, then equal instances
            taken = set(pairs.values())
            known = {prints[kind]: path for path, prints in old.items() if path not in taken and prints[kind]}
            for path in sorted(new.keys() - pairs.keys()):
                if earlier := known.pop(new[path][kind], None):
                    pairs[path] = earlier
    return pairs


def _by_patient(paths: Iterable[str]) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        found[find_patient(path)].append(path)
    return found


def _fingerprints(data: bytes) -> tuple[str, str]:
    """Hash of the pixels and instance UID; empty where there is none."""
    image = _read(data)
    pixels = hashlib.sha256(repr(image.pixels.shape).encode() + image.pixels.tobytes()).hexdigest() if image else ""
    if not is_dicom(data):
        return pixels, ""
    try:
        header = parse_dicom(data, pixels=False, keywords=["SOPInstanceUID"])
    except RejectedInput:
        return pixels, ""
    return pixels, str(header.get("SOPInstanceUID") or "")


def _read(data: bytes) -> SourceImage | None:
    try:
        return read_image(data, where="image")
    except ImageError:
        return None


def _pixels_differ(before: bytes, after: bytes) -> bool:
    first, second = _read(before), _read(after)
    if first is None or second is None:
        return True
    return first.spacing_mm != second.spacing_mm or not np.array_equal(first.pixels, second.pixels)
