"""References of the out-of-distribution check; each limit is what training images reach whose patients are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from osteo_models.core.errors import InputError
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.serving.network import LoadedNetwork
from osteo_models.serving.out_of_distribution import (
    CHECKS,
    FEATURE_QUANTILE,
    INTENSITY_SIZE,
    PIXEL_QUANTILE,
    PPCA,
    Grey,
    Numbers,
    OutOfDistribution,
    Reference,
    describe_images,
    measure,
)
from osteo_models.training.inference import Features

FOLDS: Final = 10  # of patients
STRUCTURE_COMPONENTS: Final = 40
FEATURE_COMPONENTS: Final = 128
FEATURE_SAMPLE: Final = 300  # images of a modality that the network scores, of as many patients as there are
FLOOR: Final = 0.01  # of the mean variance: what hardly varies must not decide


@threadpool_limits.wrap(limits=1, user_api="blas")  # small matrices: more threads cost more than they give
def fit_pixels(images: Grey, modalities: Sequence[str], patients: Sequence[str]) -> OutOfDistribution:
    """Fit the references of the pixels, which are the same for every network.

    Shapes:
        images: (N, 80, 60); modalities, patients: N.

    Raises:
        InputError: A modality has images of fewer than two patients.
    """
    kinds, owners = np.asarray(modalities), np.asarray(patients)
    present: list[Modality] = [name for name in MODALITIES if (kinds == name).any()]
    described = {name: describe_images(images[kinds == name]) for name in present}
    structures = {name: fit_ppca(rows["structure"], STRUCTURE_COMPONENTS) for name, rows in described.items()}
    references: dict[Modality, Reference] = {}
    for name in present:
        rows, fold = described[name], _deal_patients(owners[kinds == name], name)
        others = [model for other, model in structures.items() if other != name]
        values = np.empty((len(CHECKS), len(fold)))
        for number in range(int(fold.max()) + 1):
            out = fold == number
            intensity = fit_ppca(rows["intensity"][~out], INTENSITY_SIZE)
            structure = fit_ppca(rows["structure"][~out], STRUCTURE_COMPONENTS)
            left_out = {part: vectors[out] for part, vectors in rows.items()}
            values[:, out] = measure(left_out, intensity, structure, others)
        limits = np.quantile(values, PIXEL_QUANTILE, axis=1, method="higher")
        references[name] = Reference(fit_ppca(rows["intensity"], INTENSITY_SIZE), structures[name], limits)
    return OutOfDistribution(references)


@threadpool_limits.wrap(limits=1, user_api="blas")
def add_features(
    ood: OutOfDistribution,
    loaded: LoadedNetwork,
    images: Grey | Features,
    modalities: Sequence[str],
    patients: Sequence[str],
) -> OutOfDistribution:
    """Add the references of a network's features.

    Shapes:
        images: (N, 80, 60), or what a frozen backbone gives of them (N, F); modalities, patients: N.

    Returns:
        The same for a network that scores no image by itself.

    Raises:
        InputError: A modality has images of fewer than two patients.
    """
    if loaded.record.takes_pairs:
        return ood
    kinds, owners, references = np.asarray(modalities), np.asarray(patients), dict(ood.references)
    for name in loaded.record.modalities:
        rows = np.flatnonzero(kinds == name)
        rows = rows[choose_rows(owners[rows], FEATURE_SAMPLE)]
        fold = _deal_patients(owners[rows], name)
        features = _compute_features(loaded, images[rows], name)
        distances = np.empty(len(rows))
        for number in range(int(fold.max()) + 1):
            out = fold == number
            distances[out] = fit_ppca(features[~out], FEATURE_COMPONENTS).distances(features[out])
        limit = float(np.quantile(distances, FEATURE_QUANTILE, method="higher"))
        model = fit_ppca(features, FEATURE_COMPONENTS)
        references[name] = replace(references[name], features=model, feature_limit=limit)
    return OutOfDistribution(references)


def _compute_features(loaded: LoadedNetwork, images: Grey | Features, modality: Modality) -> Numbers:
    """What the network sees of images; what is stored of a frozen backbone is the same for every member."""
    if images.ndim == 2:
        return np.hstack([images.astype(np.float64)] * loaded.record.members)
    modalities: list[Modality | None] = [modality] * len(images)
    return loaded.examine(images.astype(np.uint8, copy=False), modalities)[1]


def fit_ppca(rows: Numbers, components: int) -> PPCA:
    """Fit a probabilistic PCA (n, d), with a floor under its variances."""
    count = max(1, min(components, len(rows) - 2, rows.shape[1] - 1))
    solver = "covariance_eigh" if len(rows) > rows.shape[1] else "full"  # the default may be a randomised one
    found = PCA(count, svd_solver=solver).fit(rows)
    floor = max(FLOOR * float(rows.var(axis=0).mean()), 1e-9)
    residual = max(float(found.noise_variance_), floor)
    mean, axes, variances = (np.asarray(part) for part in (found.mean_, found.components_, found.explained_variance_))
    return PPCA(mean, axes, np.maximum(variances, residual), np.array(residual))


def choose_rows(patients: npt.NDArray[np.str_], most: int) -> npt.NDArray[np.int64]:
    """Rows of images, of every patient in turn: slices of one patient are much alike."""
    seen: dict[str, int] = {}
    turn = np.empty(len(patients), dtype=np.int64)
    for row, patient in enumerate(patients.tolist()):
        turn[row] = seen[patient] = seen.get(patient, -1) + 1
    return np.sort(np.argsort(turn, kind="stable")[:most])


def _deal_patients(patients: npt.NDArray[np.str_], modality: Modality) -> npt.NDArray[np.int64]:
    """A fold for each image, the same for all of a patient; identifiers are pseudonyms: their order means nothing."""
    known, owner = np.unique(patients, return_inverse=True)
    if len(known) < 2:
        raise InputError("images of one patient", where=f"reference of {modality}", allowed="two patients or more")
    return owner % min(FOLDS, len(known))
