"""The reference of `feature_space`, made of training images; its limit is what images reach that were left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from osteo_models.core.errors import InputError
from osteo_models.core.terms import Modality
from osteo_models.serving.feature_space import FEATURE_QUANTILE, FeatureSpace, save_features
from osteo_models.serving.likeness import Gaussian, Numbers
from osteo_models.serving.network import FEATURES, RECORD, WEIGHTS, LoadedNetwork, read_network
from osteo_models.training.frozen_features import read_features
from osteo_models.training.inference import Features, Images
from osteo_models.training.job_data import Tables

SAMPLE: Final = 300  # images of a modality, of as many patients as there are
MEMBER_SAMPLE: Final = 150  # for each member of an ensemble
COMPONENTS: Final = 128
FOLDS: Final = 10  # of patients, where a network alone is looked at
RANK: Final = 1e-9  # of the largest variance: below it a direction is rounding
FLOOR: Final = 0.01  # of the mean variance: features that hardly vary must not decide

Whole = npt.NDArray[np.int64]


def write_features(folder: Path, tables: Tables, stored: Path) -> None:
    """Put the reference of a model folder's network beside it, from the development images.

    Args:
        folder: Holds `model.safetensors` and `model.json`.
        tables: Splits and images that it was trained on.
        stored: Folder of what frozen backbones made of the images, which is not made again.

    Raises:
        InputError: A modality has images of fewer than two patients.
        WeightsError: Weights or record are missing or damaged.
    """
    loaded = read_network(folder / WEIGHTS, folder / RECORD)
    known = tables.splits[tables.splits["holdout"] == 0]
    pretrained = json.loads((folder / RECORD).read_text(encoding="utf-8")).get("job", {}).get("pretrained") or {}
    made = read_features(stored, pretrained["features"]) if pretrained.get("features") else None
    space = fit_features(
        loaded,
        tables.images if made is None else made.values,
        known.index.to_numpy(),
        known["modality"].to_numpy(str),
        known["patient_id"].to_numpy(str),
        known["fold_patient"].to_numpy(np.int64) if loaded.record.members > 1 else None,
    )
    if space:
        save_features(folder / FEATURES, space)


@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_features(
    loaded: LoadedNetwork,
    images: Images | Features,
    known: Whole,
    modalities: npt.NDArray[np.str_],
    patients: npt.NDArray[np.str_],
    folds: Whole | None = None,
) -> FeatureSpace | None:
    """Make the reference of training images.

    The limit is found with patients left out: for a member of a fold ensemble those of its fold, which it was not
    trained on; for a network alone a tenth at a time, of the Gaussians only.

    Shapes:
        images: (N, 80, 60), or a frozen backbone's features (N, F); known, modalities, patients, folds: M.

    Args:
        loaded: The network, which scores them in its own precision.
        images: All images.
        known: Rows of the development images.
        modalities: Theirs; other modalities than the network takes are left out.
        patients: Theirs.
        folds: For an ensemble the member that was not trained on an image.

    Returns:
        None for a network that scores no image by itself.

    Raises:
        InputError: A modality has images of fewer than two patients.
    """
    if loaded.record.takes_pairs:
        return None
    members: dict[Modality, list[Gaussian]] = {}
    limits: dict[Modality, float] = {}
    for name in loaded.record.modalities:
        rows = np.flatnonzero(modalities == name)
        rows = rows[choose_rows(patients[rows], SAMPLE if folds is None else MEMBER_SAMPLE)]
        if len(np.unique(patients[rows])) < 2:
            raise InputError("images of one patient", where=f"features of {name}", allowed="two patients or more")
        features = _look(loaded, np.asarray(images[known[rows]]), name)
        out = deal_patients(patients[rows]) if folds is None else folds[rows]
        members[name], limits[name] = _fit_members(features, out, alone=folds is None)
    return FeatureSpace(members, limits)


def _look(loaded: LoadedNetwork, chosen: npt.NDArray[np.uint8 | np.float32], name: Modality) -> list[Numbers]:
    """The features of images for each member; a frozen backbone's are the same for all."""
    if chosen.ndim == 2:
        return [chosen.astype(np.float64)] * loaded.record.members
    modalities: list[Modality | None] = [name] * len(chosen)
    return loaded.examine(chosen.astype(np.uint8, copy=False), modalities)[1]


def _fit_members(features: Sequence[Numbers], out: Whole, *, alone: bool) -> tuple[list[Gaussian], float]:
    distances = np.empty(len(out))
    fitted: list[Gaussian] = []
    for number in range(int(out.max()) + 1 if alone else len(features)):
        rows = features[0 if alone else number]
        fitted.append(_fit(rows[out != number]))
        distances[out == number] = fitted[-1].distances(rows[out == number])
    limit = float(np.quantile(distances, FEATURE_QUANTILE, method="higher"))
    return [_fit(features[0])] if alone else fitted, limit


def _fit(rows: Numbers) -> Gaussian:
    """By the products of images with each other: a backbone has more features than there are images."""
    mean = rows.mean(axis=0)
    offset = rows - mean
    squares, sides = np.linalg.eigh(offset @ offset.T)
    kept = min(COMPONENTS, int((squares > RANK * squares[-1]).sum()))
    squares, sides = squares[::-1], sides[:, ::-1]
    axes = sides[:, :kept].T @ offset / np.sqrt(squares[:kept, None])
    variances = np.maximum(squares, 0) / max(1, len(rows) - 1)
    floor = max(FLOOR * float(variances.sum()) / mean.size, 1e-9)
    beyond = float(variances[kept:].sum()) / max(1, mean.size - kept)
    return Gaussian(mean, axes, np.maximum(variances[:kept], floor), np.array(max(beyond, floor)))


def choose_rows(patients: npt.NDArray[np.str_], most: int) -> Whole:
    """Rows of images, of every patient in turn: slices of one patient are much alike."""
    seen: dict[str, int] = {}
    turn = np.empty(len(patients), dtype=np.int64)
    for row, patient in enumerate(patients.tolist()):
        turn[row] = seen[patient] = seen.get(patient, -1) + 1
    return np.sort(np.argsort(turn, kind="stable")[:most])


def deal_patients(patients: npt.NDArray[np.str_]) -> Whole:
    """A fold for each image, the same for all of a patient; identifiers are pseudonyms: their order means nothing."""
    known, owner = np.unique(patients, return_inverse=True)
    return owner % min(FOLDS, len(known))
