"""The references of `likeness`; their limits are what they reach with their patients left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from osteo_models.core.errors import InputError
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.serving.likeness import (
    CHECKS,
    QUANTILE,
    Gaussian,
    Grey,
    Likeness,
    Numbers,
    Reference,
    View,
    describe_images,
    measure,
)

FOLDS: Final = 10  # of patients
COMPONENTS: Final = 40


@threadpool_limits.wrap(limits=1, user_api="blas")  # small matrices: more threads cost more than they give
def fit_likeness(images: Grey, modalities: Sequence[str], patients: Sequence[str]) -> Likeness:
    """Make the references of training images.

    Shapes:
        images: (N, 80, 60); modalities, patients: N.

    Raises:
        InputError: A modality has images of fewer than two patients.
    """
    kinds, owners = np.asarray(modalities), np.asarray(patients)
    views: dict[Modality, View] = {}
    for name in MODALITIES:
        if count := len(np.unique(owners[kinds == name])):
            views[name] = describe_images(images[kinds == name])
            if count < 2:
                raise InputError("images of one patient", where=f"reference of {name}", allowed="two patients or more")
    structures = {name: _fit(view.structure, COMPONENTS) for name, view in views.items()}
    references: dict[Modality, Reference] = {}
    for name, view in views.items():
        others = [gaussian for other, gaussian in structures.items() if other != name]
        limits = _find_limits(view, owners[kinds == name], others)
        references[name] = Reference(_fit(view.tones, None), structures[name], limits)
    return Likeness(references)


def _find_limits(view: View, patients: npt.NDArray[np.str_], others: Sequence[Gaussian]) -> Numbers:
    """What the images reach when their patients are left out of the Gaussians."""
    known, owner = np.unique(patients, return_inverse=True)
    fold = owner % min(FOLDS, len(known))  # identifiers are pseudonyms: their order means nothing
    values = np.empty((len(CHECKS), len(patients)))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        tones, structure = _fit(view.tones[~out], None), _fit(view.structure[~out], COMPONENTS)
        values[:, out] = measure(view.select(out), tones, structure, others)
    return np.quantile(values, QUANTILE, axis=1, method="higher")


def _fit(rows: Numbers, components: int | None) -> Gaussian:
    mean = rows.mean(axis=0)
    offset = rows - mean
    variances, axes = np.linalg.eigh(offset.T @ offset / max(1, len(rows) - 1))
    variances, axes = variances[::-1], axes[:, ::-1].T
    kept = max(1, min(components or mean.size - 1, mean.size - 1, len(rows) - 2))
    rest = max(float(variances[kept:].mean()), 1e-3)
    return Gaussian(mean, axes[:kept], np.maximum(variances[:kept], rest), np.array(rest))
