"""What decides a job's result: its inputs by their content, and the versions of the code that computes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from osteo_models.models import complete_spec, find_entry
from osteo_models.training import fit, frozen_features
from osteo_models.training.fold import Arrays, FoldRows

Versions = dict[str, int | str]
DIGEST_LENGTH: Final = 32  # hexadecimal digits
FEATURE_VERSIONS: Final = ("pretrained", "features", "timm")  # the code that computes features of images


def list_versions(architecture: str, spec: Mapping[str, Any]) -> Versions:
    """The versions of all code that computes a job's result, each declared as `VERSION` next to that code.

    Raises:
        InputError: Unknown architecture or spec key.
    """
    transfer = complete_spec(architecture, spec).get("transfer")
    versions: Versions = {"training": fit.VERSION, **find_entry(architecture, spec).versions}
    if transfer is not None:
        versions["timm"] = version("timm")
    if transfer == "frozen":
        versions["features"] = frozen_features.VERSION
    return versions


def hash_images(arrays: Arrays) -> npt.NDArray[np.uint8]:
    """A hash of each image: pixels, class and modality.

    Returns:
        (N, 32).
    """
    labels = np.stack([arrays.target, arrays.modality], axis=1).astype(np.int64)
    both = zip(arrays.images, labels, strict=True)
    hashes = [hashlib.sha256(pixels.tobytes() + label.tobytes()).digest() for pixels, label in both]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, hashlib.sha256().digest_size)


def digest_images(hashes: npt.NDArray[np.uint8]) -> str:
    """A hash of images in their order, from the hash of each."""
    return hashlib.sha256(np.ascontiguousarray(hashes).data).hexdigest()[:DIGEST_LENGTH]


def digest_inputs(hashes: npt.NDArray[np.uint8], folds: Sequence[FoldRows]) -> dict[str, str]:
    """Hashes of what the trials of a job or study read; images that none of them reads do not count.

    Args:
        hashes: Hash of each image of the table, from `hash_images`.
        folds: Rows of each fold.

    Returns:
        `images`: hash of the images that are trained or tested on. `folds`: hash of their distribution over the folds.
    """
    parts = [rows for fold in folds for rows in (fold.train, fold.test)]
    used = np.unique(np.concatenate([rows.ravel() for rows in parts]))
    content = hashlib.sha256()
    for rows in parts:
        content.update(repr(rows.shape).encode() + np.searchsorted(used, rows).astype(np.int64).tobytes())
    return {"images": digest_images(hashes[used]), "folds": content.hexdigest()[:DIGEST_LENGTH]}
