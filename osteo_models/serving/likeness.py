"""Whether an image looks like those that a network was trained on: modality, orientation, intensity, structure.

A network gives a score to anything, a photograph too. The reference is small and plain numbers: for each modality a
Gaussian (probabilistic PCA) of the tones and one of the structure, with the limits that training images keep
(`likeness_fit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality

Grey = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

QUANTILE: Final = 0.999  # of the training images pass each check
BLOCK: Final = 4  # pixels: structure is looked at on 20 x 15 blocks
PERCENTILES: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)
SLACK: Final = 2.0  # on the limits, where only the reason is sought: turning back resamples a second time

# A network that is not equivariant must not see the body another way up than in training.
TURNS: Final[Mapping[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]] = {
    "turned by 90 degrees": lambda images: np.rot90(images, 1, axes=(1, 2)),
    "turned by 180 degrees": lambda images: np.rot90(images, 2, axes=(1, 2)),
    "turned by 270 degrees": lambda images: np.rot90(images, 3, axes=(1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "turned upside down": lambda images: images[:, ::-1],
}
CHECKS: Final = ("tones", "structure", "modality", *TURNS)


@dataclass(frozen=True)
class Gaussian:
    """Mean, leading axes with their variances, and one variance for all other directions.

    Shapes:
        mean: (d,); axes: (k, d), orthonormal; variances: (k,); rest: ().
    """

    mean: Numbers
    axes: Numbers
    variances: Numbers
    rest: Numbers

    def distances(self, rows: Numbers) -> Numbers:
        """Squared Mahalanobis distances: (n, d) -> (n,)."""
        offset = rows - self.mean
        along = offset @ self.axes.T
        across = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return (along**2 / self.variances).sum(axis=1) + across / self.rest

    def surprises(self, rows: Numbers) -> Numbers:
        """Twice the negative log-likelihoods, without their constant: comparable between Gaussians."""
        spread = np.log(self.variances).sum() + (self.mean.size - self.variances.size) * np.log(self.rest)
        return self.distances(rows) + spread


@dataclass(frozen=True)
class View:
    """What is looked at in n images.

    Shapes:
        tones: (n, 11); structure: (n, 300); turned: one such structure for each of `TURNS`.
    """

    tones: Numbers
    structure: Numbers
    turned: Mapping[str, Numbers]

    def select(self, rows: npt.NDArray[np.bool_]) -> View:
        """The same of some images."""
        turned = {name: structure[rows] for name, structure in self.turned.items()}
        return View(self.tones[rows], self.structure[rows], turned)


@dataclass(frozen=True)
class Reference:
    """What images of one modality look like; `limits` has the largest value of each of `CHECKS` that passes."""

    tones: Gaussian
    structure: Gaussian
    limits: Numbers

    def fits(self, image: Grey) -> bool:
        """Whether tones and structure come near, whatever the other checks say: (1, 80, 60)."""
        tones, structure = _describe_tones(image), _describe_structure(image)
        values = np.array([self.tones.distances(tones)[0], self.structure.distances(structure)[0]])
        return bool((values <= SLACK * self.limits[:2]).all())


@dataclass(frozen=True)
class Likeness:
    """The references by modality; also of a modality that the network was not trained on, to know it by."""

    references: Mapping[Modality, Reference]

    def find_fault(self, pixels: Grey, modality: Modality | None) -> str | None:
        """Why an image does not look like the training images; None where it does.

        Shapes:
            pixels: (80, 60), prepared.

        Args:
            modality: What it is said to be; None where nothing says it: then it may look like either.
        """
        faults: list[str] = []
        for name in self.references if modality is None else (modality,):
            fault = self._find_fault(pixels[None], name)
            if fault is None:
                return None
            faults.append(fault)
        return faults[0]

    def _find_fault(self, image: Grey, modality: Modality) -> str | None:
        own = self.references[modality]
        others = {name: item for name, item in self.references.items() if name != modality}
        view = describe_images(image)
        values = measure(view, own.tones, own.structure, [item.structure for item in others.values()])[:, 0]
        over = [name for name, value, limit in zip(CHECKS, values, own.limits, strict=True) if value > limit]
        if not over:
            return None
        for name, other in others.items():
            if "modality" in over and other.fits(image):
                return f"modality: it looks like {name}, not like {modality}"
        turned = {name: own.structure.distances(view.turned[name])[0] for name in over if name in TURNS}
        nearest = min(turned, key=lambda name: turned[name], default=None)
        # A quarter turn resamples, which changes the tones: what is far off upright and near when turned is turned.
        far_upright = nearest is not None and turned[nearest] <= own.limits[1] < values[1]
        if nearest and (far_upright or own.fits(_resize(TURNS[nearest](image)))):
            return f"orientation: it would fit {nearest}"
        check, at = over[0], CHECKS.index(over[0])
        share = f"{QUANTILE:.1%} of the training images"
        if check == "modality":
            return f"modality: less clearly {modality} than {share}"
        if check in TURNS:
            return f"orientation: less clearly upright than {share}"
        kind = "intensity" if check == "tones" else check
        return f"{kind}: distance {values[at]:.0f}, {share} are within {own.limits[at]:.0f}"


def describe_images(images: Grey) -> View:
    """What the checks look at: images (n, 80, 60)."""
    structure = _describe_structure(images)
    grids = structure.reshape(len(images), IMAGE_ROWS // BLOCK, IMAGE_COLUMNS // BLOCK)
    turned: dict[str, Numbers] = {}
    for name, turn in TURNS.items():
        quarter = turn(grids).shape != grids.shape  # that is a picture of another shape; else the blocks change places
        turned[name] = _describe_structure(_resize(turn(images))) if quarter else turn(grids).reshape(structure.shape)
    return View(_describe_tones(images), structure, turned)


def _describe_tones(images: Grey) -> Numbers:
    """Percentiles of the grey values, and how much neighbours differ: (n, 11)."""
    percentiles = np.percentile(images.reshape(len(images), -1), PERCENTILES, axis=1).T
    grey = images.astype(np.float64)
    steps = [np.log1p(np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2))) for axis in (1, 2)]
    return np.column_stack([percentiles / 10, *(5 * step for step in steps)])


def _describe_structure(images: Grey) -> Numbers:
    """Block means with mean 0 and spread 1 in each image, so that tones count for nothing: (n, 300)."""
    rows, columns = IMAGE_ROWS // BLOCK, IMAGE_COLUMNS // BLOCK
    blocks = images.reshape(len(images), rows, BLOCK, columns, BLOCK).mean(axis=(2, 4)).reshape(len(images), -1)
    centred = blocks - blocks.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 4.0)  # a flat image has no structure to enlarge


def _resize(images: Grey) -> Grey:
    """Turned images at the shape that they had before."""
    if images.shape[1:] == (IMAGE_ROWS, IMAGE_COLUMNS):
        return images
    pictures = (Image.fromarray(np.ascontiguousarray(each)) for each in images)
    sized = [np.asarray(each.resize((IMAGE_COLUMNS, IMAGE_ROWS), Image.Resampling.BILINEAR)) for each in pictures]
    return np.stack(sized)


def measure(view: View, tones: Gaussian, structure: Gaussian, others: Sequence[Gaussian]) -> Numbers:
    """The values of `CHECKS`: (checks, n)."""
    upright, own = structure.distances(view.structure), structure.surprises(view.structure)
    alone = np.zeros(len(own))  # there is no other modality that an image could look like
    modality = np.max([own - other.surprises(view.structure) for other in others] or [alone], axis=0)
    turned = [upright - structure.distances(view.turned[name]) for name in TURNS]
    return np.stack([tones.distances(view.tones), upright, modality, *turned])
