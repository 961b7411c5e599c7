"""Which images changed between two revisions: under the same name, or, where names follow the content, under a new one.

An imported image is named by its bytes, so that a changed image has another name. It is known again by its pixels or,
where these changed, by its instance identifier.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from osteo_models.data.dicom import SourceImage, is_dicom, read_image
from osteo_models.data.history import Revision
from osteo_models.errors import ImageError

IMAGES = "dicom/"


@dataclass(frozen=True)
class ImageChanges:
    """Paths in the data set; changed images by their newer name."""

    added: list[str]
    removed: list[str]
    pixels: list[str]
    header: list[str]


def list_images(revision: Revision) -> dict[str, str]:
    """MD5 of every image file, by its path."""
    return {path: digest for path, digest in revision.files.items() if path.startswith(IMAGES)}


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
        old = {path: _marks(before.read(path)) for path in left[patient]}
        new = {path: _marks(after.read(path)) for path in arrived[patient]}
        for mark in range(2):  # equal pixels first: they say more than a name does
            taken = set(pairs.values())
            known = {marks[mark]: path for path, marks in old.items() if path not in taken and marks[mark]}
            for path in sorted(new.keys() - pairs.keys()):
                if earlier := known.pop(new[path][mark], None):
                    pairs[path] = earlier
    return pairs


def _by_patient(paths: Iterable[str]) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        found[find_patient(path)].append(path)
    return found


def _marks(data: bytes) -> tuple[str, str]:
    """What an image is known again by: its pixels and its instance identifier; empty where it has none."""
    image = _read(data)
    pixels = hashlib.sha256(repr(image.pixels.shape).encode() + image.pixels.tobytes()).hexdigest() if image else ""
    if not is_dicom(data):
        return pixels, ""
    try:
        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    except (InvalidDicomError, ValueError, EOFError, OSError):
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
