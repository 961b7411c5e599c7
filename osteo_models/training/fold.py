"""The images in memory, the rows of a fold, and the checked data of one fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from osteo_models.core.errors import SplitError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """What every trial reads: images uint8 (N, 80, 60) or features float32 (N, F), target (N,), modality (N,):
    numbers in the order of `MODALITIES`."""

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    modality: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FoldRows:
    """The rows of one fold.

    Shapes:
        train: (n,) rows, or (n, K) pairs, a row of each of K modalities, for the multimodal network.
        test: (m,) rows, or (m, K) pairs where the network needs all its modalities at once.
    """

    train: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class FoldData:
    """What one fit trains and is tested on; rows index `images`, `target` and `modality` alike.

    Shapes: images: (N, 80, 60), or features of them (N, F); target, modality: (N,); train: (n,), or (n, K) pairs, a row
    of each of K modalities, for a multimodal network; test: (m,), or (m, K) pairs for `fusion="feature"`.

    Args:
        images: 8-bit, grey; features: float32. A writable array is shared, a read-only one copied.
        target: 0 (control) or 1 (osteoporosis).
        modality: Number of each image's modality in the order of `MODALITIES`.
        train: Rows or pairs to train on, at least one.
        test: Rows or pairs to score, at least one.

    Raises:
        SplitError: Rows are missing, an image is in both `train` and `test`, or a pair is not one image of each
            modality, all of one class.
    """

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    target: npt.NDArray[np.integer]
    modality: npt.NDArray[np.integer]
    train: npt.NDArray[np.integer]
    test: npt.NDArray[np.integer]

    def __post_init__(self) -> None:
        for name, rows in (("train", self.train), ("test", self.test)):
            if not len(rows):
                raise SplitError(f"`{name}` is empty", where="fold data", allowed="at least one image")
            self._check_pairs(name, rows)
        shared = np.intersect1d(self.train, self.test)
        if len(shared):
            found = f"{len(shared)} images are in both train and test, the first is row {shared[0]}"
            raise SplitError(found, where="fold data", allowed="none")

    def digest(self) -> str:
        """A hash of what is trained and tested on, in its order, in hexadecimal; other images do not count."""
        content = hashlib.sha256()
        for rows in (self.train, self.test):
            for array in (self.images[rows], self.target[rows].astype(np.int64), self.modality[rows].astype(np.int64)):
                content.update(repr(array.shape).encode())
                content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()

    def _check_pairs(self, name: str, rows: npt.NDArray[np.integer]) -> None:
        if rows.ndim == 1:
            return
        modality, target = self.modality[rows], self.target[rows]
        wrong = (modality != modality[0]).any(axis=1) | (target != target[:, :1]).any(axis=1)
        wrong |= len(np.unique(modality[0])) < rows.shape[1]
        if wrong.any():
            pair = int(np.argmax(wrong))
            found = f"pair {pair} of `{name}` is not one image of each modality, all of one class"
            raise SplitError(
                found, where="fold data", allowed="a row of each modality, in one order, with equal targets"
            )
