"""The images that a search may see: the MRI development set, cut out before the search begins.

Everything after this module gets these arrays and nothing else, so that the hold-out is out of its reach.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from osteo_models.core.errors import SplitError
from osteo_models.core.terms import CLASS_NAMES, MODALITIES, Modality
from osteo_models.training.fold import Arrays, FoldRows
from osteo_models.training.identity import DIGEST_LENGTH, digest_inputs, hash_images


def deal_patient_folds(
    target: npt.NDArray[np.integer], patient: npt.NDArray[np.integer], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold in which each image is tested: whole patients, stratified by class.

    Shapes: target, patient: (N,). Returns: (N,), from 0 to `folds` - 1.

    Raises:
        SplitError: a class has fewer patients than there are folds.
    """
    for label, name in enumerate(CLASS_NAMES):
        count = len(np.unique(patient[target == label]))
        if count < folds:
            found = f"{count} {name} patients for {folds} folds"
            raise SplitError(found, where="patient folds", remedy="lower the number of folds in params.yaml")
    dealt = np.empty(len(target), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(target, target, groups=patient)):
        dealt[test] = fold
    return dealt


@dataclass(frozen=True, eq=False)
class Development:
    """One modality's images outside the hold-out.

    Shapes:
        arrays: N images. patient: (N,), a number per patient.
    """

    arrays: Arrays
    patient: npt.NDArray[np.int64]

    def digest_inputs(self, folds: Sequence[FoldRows]) -> dict[str, str]:
        """Hashes of the images, of the rows of the folds, and of which images are one patient's."""
        patients = hashlib.sha256(self.patient.tobytes()).hexdigest()[:DIGEST_LENGTH]
        return {**digest_inputs(hash_images(self.arrays), folds), "patients": patients}

    def deal(self, folds: int, seed: int) -> list[FoldRows]:
        """The rows of each fold, a patient's images on one side.

        Raises:
            SplitError: too few patients.
        """
        dealt = deal_patient_folds(self.arrays.target, self.patient, folds, seed)
        return [FoldRows(np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(folds)]


def select_development(splits: pd.DataFrame, images: npt.NDArray[np.uint8], modality: Modality) -> Development:
    """Copy the pixels of the development set; those of the hold-out are not read.

    Args:
        splits: splits.csv, row i of which is image i.
        images: All images, a memory map for one.
        modality: Of the images to take.

    Raises:
        SplitError: there are none.
    """
    table = splits[(splits["modality"] == modality) & (splits["holdout"] == 0)]
    if table.empty:
        raise SplitError(f"no {modality} image outside the hold-out", where="splits.csv")
    rows = table.index.to_numpy()
    _, patient = np.unique(table["patient_id"].to_numpy(str), return_inverse=True)
    target = np.array(table["target"], np.int64)
    modalities = np.full(len(rows), list(MODALITIES).index(modality), np.int64)
    return Development(Arrays(np.ascontiguousarray(images[rows]), target, modalities), patient.astype(np.int64))
