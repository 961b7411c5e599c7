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
    """What every trial reads: images uint8 (N, 80, 60) or features float32 (N, F), target (N,), is_ct (N,)."""

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    is_ct: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FoldRows:
    """The rows of one fold.

    Shapes:
        train: (n,) rows, or (n, 2) pairs of MRI row and CT row for the multimodal network.
        test: (m,) rows, or (m, 2) pairs where the network needs both modalities at once.
    """

    train: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class FoldData:
    """What one fit trains and is tested on; rows index `images`, `target` and `is_ct` alike.

    Shapes: images: (N, 80, 60), or features of them (N, F); target, is_ct: (N,); train: (n,), or (n, 2) pairs [MRI row,
    CT row] for a multimodal network; test: (m,), or (m, 2) pairs for `fusion="feature"`.

    Args:
        images: 8-bit, grey; features: float32. A writable array is shared, a read-only one copied.
        target: 0 (control) or 1 (osteoporosis).
        is_ct: Whether an image is CT, not MRI.
        train: Rows or pairs to train on, at least one.
        test: Rows or pairs to score, at least one.

    Raises:
        SplitError: Rows are missing, an image is in both `train` and `test`, or a pair is not an MRI and a CT image of
            one class.
    """

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    target: npt.NDArray[np.integer]
    is_ct: npt.NDArray[np.bool_]
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
            for array in (self.images[rows], self.target[rows].astype(np.int64), self.is_ct[rows]):
                content.update(repr(array.shape).encode())
                content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()

    def _check_pairs(self, name: str, rows: npt.NDArray[np.integer]) -> None:
        if rows.ndim == 1:
            return
        mri, ct = rows.T
        wrong = self.is_ct[mri] | ~self.is_ct[ct] | (self.target[mri] != self.target[ct])
        if wrong.any():
            found = f"pair {int(np.argmax(wrong))} of `{name}` is not an MRI and a CT image of one class"
            raise SplitError(found, where="fold data", allowed="[MRI row, CT row] with equal targets")
