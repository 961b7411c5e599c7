"""Folds that keep a patient together, drawn from a seed of the caller's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from osteo_models.errors import SplitError
from osteo_models.terms import CLASS_NAMES


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
