"""Out-of-distribution check of an image against the training images of a network.

A network scores anything, a photograph too. Probabilistic PCAs (Tipping and Bishop 1999) per modality describe the
training images: of intensities, of structure, which is also evaluated on the turned image and against the other
modality, and of the network's own features (Mahalanobis distance; Lee et al. 2018, section 2.1). One joint vector is
not enough: it dilutes the few intensities, and telling upright from upside down would cost six forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from osteo_models.core.errors import WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, MODALITIES, Modality

Grey = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

PIXEL_QUANTILE: Final = 0.999  # of the training images pass each check of the pixels
FEATURE_QUANTILE: Final = 0.99  # of the training images pass the check of the features
BLOCK: Final = 4  # pixels: structure is described on 20 x 15 blocks
PERCENTILES: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)
INTENSITY_SIZE: Final = len(PERCENTILES) + 2
STRUCTURE_SIZE: Final = IMAGE_ROWS * IMAGE_COLUMNS // BLOCK**2
SLACK: Final = 2.0  # on the limit, where only the reason is sought: turning back resamples a second time
MOST_BYTES: Final = 24_000_000

# A network that is not equivariant must not see the body another way up than in training.
TURNS: Final[Mapping[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]] = {
    "turned by 90 degrees": lambda images: np.rot90(images, 1, axes=(1, 2)),
    "turned by 180 degrees": lambda images: np.rot90(images, 2, axes=(1, 2)),
    "turned by 270 degrees": lambda images: np.rot90(images, 3, axes=(1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "turned upside down": lambda images: images[:, ::-1],
}
CHECKS: Final = ("intensity", "structure", "modality", *TURNS)


@dataclass(frozen=True)
class PPCA:
    """Probabilistic PCA: a Gaussian with k principal components and one variance for all other directions.

    Shapes:
        mean: (d,); components: (k, d), orthonormal; variances: (k,); residual_variance: ().
    """

    mean: Numbers
    components: Numbers
    variances: Numbers
    residual_variance: Numbers

    def distances(self, rows: Numbers) -> Numbers:
        """Squared Mahalanobis distances: (n, d) -> (n,)."""
        offset = rows - self.mean
        along = offset @ self.components.T
        across = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return (along**2 / self.variances).sum(axis=1) + across / self.residual_variance

    def deviances(self, rows: Numbers) -> Numbers:
        """-2 log-likelihood without its constant, comparable between models of the same vector: (n, d) -> (n,)."""
        left = self.mean.size - self.variances.size
        return self.distances(rows) + np.log(self.variances).sum() + left * np.log(self.residual_variance)


@dataclass(frozen=True)
class Reference:
    """The training images of one modality.

    Attributes:
        intensity: Model of `describe_intensity`.
        structure: Model of `describe_structure`.
        limits: Largest value of each of `CHECKS` that passes.
        features: Model of the network's features; None for a modality that the network does not take.
        feature_limit: Largest distance of the features that passes.
    """

    intensity: PPCA
    structure: PPCA
    limits: Numbers
    features: PPCA | None = None
    feature_limit: float = np.inf

    def fits(self, image: Grey) -> bool:
        """Whether intensity and structure of an image (1, 80, 60) are near, whatever the other checks give."""
        intensity, structure = describe_intensity(image), describe_structure(image)
        values = np.array([self.intensity.distances(intensity)[0], self.structure.distances(structure)[0]])
        return bool((values <= SLACK * self.limits[:2]).all())


@dataclass(frozen=True)
class OutOfDistribution:
    """The check: references by modality, also of one that the network does not take, to recognise it."""

    references: Mapping[Modality, Reference]

    def find_fault(self, pixels: Grey, features: Numbers, modality: Modality | None) -> str | None:
        """Why an image is out of distribution; None where it is not.

        Shapes:
            pixels: (80, 60), prepared; features: (d,), of the network that scored it.

        Args:
            pixels: The image.
            features: Its features; not used where the reference has none.
            modality: Modality of the image; None where it is unknown: then it may fit any of them.
        """
        names: list[Modality] = list(self.references) if modality is None else [modality]
        faults = [self._check_pixels(pixels[None], name) or self._check_features(features, name) for name in names]
        return None if None in faults else faults[0]

    def _check_features(self, features: Numbers, modality: Modality) -> str | None:
        own = self.references[modality]
        distance = float(own.features.distances(features[None])[0]) if own.features else 0.0
        if distance <= own.feature_limit:
            return None
        share = f"{FEATURE_QUANTILE:.0%} of the training images"
        return f"features: distance {distance:.0f}, {share} are within {own.feature_limit:.0f}"

    def _check_pixels(self, image: Grey, modality: Modality) -> str | None:
        own = self.references[modality]
        others = {name: other for name, other in self.references.items() if name != modality}
        described = describe_images(image)
        values = measure(described, own.intensity, own.structure, [other.structure for other in others.values()])[:, 0]
        over = [name for name, value, limit in zip(CHECKS, values, own.limits, strict=True) if value > limit]
        if not over:
            return None
        for name, other in others.items():
            if "modality" in over and other.fits(image):
                return f"modality: it looks like {name}, not like {modality}"
        distances = {name: own.structure.distances(described[name])[0] for name in over if name in TURNS}
        nearest = min(distances, key=lambda name: distances[name], default=None)
        # A quarter turn resamples, which changes the intensities: far upright and near when turned is turned.
        far_upright = nearest is not None and distances[nearest] <= own.limits[1] < values[1]
        if nearest and (far_upright or own.fits(_resize(TURNS[nearest](image)))):
            return f"orientation: it would fit {nearest}"
        share = f"{PIXEL_QUANTILE:.1%} of the training images"
        if over[0] == "modality":
            return f"modality: less clearly {modality} than {share}"
        if over[0] in TURNS:
            return f"orientation: less clearly upright than {share}"
        check = CHECKS.index(over[0])
        return f"{over[0]}: distance {values[check]:.0f}, {share} are within {own.limits[check]:.0f}"


def describe_images(images: Grey) -> dict[str, Numbers]:
    """Intensity and structure of images (n, 80, 60), and their structure in each of `TURNS`, by name."""
    structure = describe_structure(images)
    grids = structure.reshape(len(images), IMAGE_ROWS // BLOCK, IMAGE_COLUMNS // BLOCK)
    found = {"intensity": describe_intensity(images), "structure": structure}
    for name, turn in TURNS.items():
        quarter = turn(grids).shape != grids.shape  # that is an image of another shape; else the blocks change places
        found[name] = describe_structure(_resize(turn(images))) if quarter else turn(grids).reshape(structure.shape)
    return found


def describe_intensity(images: Grey) -> Numbers:
    """Percentiles of the grey values and differences of neighbours: (n, INTENSITY_SIZE)."""
    percentiles = np.percentile(images.reshape(len(images), -1), PERCENTILES, axis=1).T
    grey = images.astype(np.float64)
    steps = [np.log1p(np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2))) for axis in (1, 2)]
    return np.column_stack([percentiles / 10, *(5 * step for step in steps)])


def describe_structure(images: Grey) -> Numbers:
    """Block means with mean 0 and spread 1 in each image, so that intensities do not count: (n, STRUCTURE_SIZE)."""
    rows, columns = IMAGE_ROWS // BLOCK, IMAGE_COLUMNS // BLOCK
    blocks = images.reshape(len(images), rows, BLOCK, columns, BLOCK).mean(axis=(2, 4)).reshape(len(images), -1)
    centred = blocks - blocks.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 4.0)  # a flat image has no structure to enlarge


def _resize(images: Grey) -> Grey:
    """Turned images at the shape that they had before."""
    if images.shape[1:] == (IMAGE_ROWS, IMAGE_COLUMNS):
        return images
    pictures = (Image.fromarray(np.ascontiguousarray(image)) for image in images)
    size, filtering = (IMAGE_COLUMNS, IMAGE_ROWS), Image.Resampling.BILINEAR
    return np.stack([np.asarray(picture.resize(size, filtering)) for picture in pictures])


def measure(described: Mapping[str, Numbers], intensity: PPCA, structure: PPCA, others: Sequence[PPCA]) -> Numbers:
    """The values of `CHECKS` of n images by models of one modality: (checks, n).

    Args:
        described: From `describe_images`.
        intensity: Model of the modality.
        structure: Model of the modality.
        others: Models of the structure of the other modalities.
    """
    upright = structure.distances(described["structure"])
    deviance = structure.deviances(described["structure"])
    no_other = np.zeros(len(upright))  # there is no other modality that an image could look like
    modality = np.max([deviance - other.deviances(described["structure"]) for other in others] or [no_other], axis=0)
    turned = [upright - structure.distances(described[name]) for name in TURNS]
    return np.stack([intensity.distances(described["intensity"]), upright, modality, *turned])


def save_ood(path: Path, ood: OutOfDistribution) -> None:
    """Write the references as safetensors: plain numbers, no code."""
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, reference in ood.references.items():
        tensors[f"{name}.limits"] = reference.limits.astype(np.float32)
        if reference.features:
            tensors[f"{name}.features.limit"] = np.array(reference.feature_limit, np.float32)
        for part in ("intensity", "structure", "features"):
            model: PPCA | None = getattr(reference, part)
            for field in fields(PPCA) if model else ():
                tensors[f"{name}.{part}.{field.name}"] = getattr(model, field.name).astype(np.float32, order="C")
    path.write_bytes(save(tensors))


def load_ood(path: Path, feature_sizes: Mapping[Modality, int]) -> OutOfDistribution:
    """Read what `save_ood` wrote.

    Args:
        path: The file.
        feature_sizes: Number of features of the network, for each modality that it takes.

    Raises:
        WeightsError: It is missing, damaged, or the reference of other images or of another network.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WeightsError(f"{path.stat().st_size:,} bytes", where=str(path), allowed=f"up to {MOST_BYTES:,}")
        tensors = {key: value.astype(np.float64) for key, value in load(path.read_bytes()).items()}
        names: list[Modality] = [name for name in MODALITIES if f"{name}.limits" in tensors]
        sizes = {name: feature_sizes.get(name, 0) for name in names}
        references: dict[Modality, Reference] = {name: _read_reference(tensors, name, sizes[name]) for name in names}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"no reference of training images ({error})", where=str(path)) from None
    if not references:
        raise WeightsError("no reference of training images", where=str(path), allowed=" or ".join(MODALITIES))
    return OutOfDistribution(references)


def _read_reference(tensors: Mapping[str, Numbers], name: Modality, feature_size: int) -> Reference:
    limits = tensors[f"{name}.limits"]
    if limits.shape != (len(CHECKS),) or not np.isfinite(limits).all():
        raise ValueError(f"`{name}.limits` has other shapes or values than it should")
    intensity = _read_ppca(tensors, f"{name}.intensity", INTENSITY_SIZE)
    reference = Reference(intensity, _read_ppca(tensors, f"{name}.structure", STRUCTURE_SIZE), limits)
    if not feature_size:
        return reference
    limit = float(tensors[f"{name}.features.limit"])
    if not 0 < limit < np.inf:
        raise ValueError(f"`{name}.features.limit` is no positive number")
    return replace(reference, features=_read_ppca(tensors, f"{name}.features", feature_size), feature_limit=limit)


def _read_ppca(tensors: Mapping[str, Numbers], prefix: str, size: int) -> PPCA:
    parts = [tensors[f"{prefix}.{field.name}"] for field in fields(PPCA)]
    model, count = PPCA(*parts), parts[2].size
    fitting = [part.shape for part in parts] == [(size,), (count, size), (count,), ()]
    positive = bool((model.variances > 0).all() and model.residual_variance > 0)
    if not (fitting and positive and all(np.isfinite(part).all() for part in parts)):
        raise ValueError(f"`{prefix}` has other shapes or values than it should")
    return model
