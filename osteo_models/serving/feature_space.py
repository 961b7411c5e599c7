"""How far an image lies from the training images in the network's own features: what its dense layers get to see.

Of each channel of the last convolution the mean and the spread over the image; of a pretrained backbone its pooled
features. The reference is a Gaussian of them (Mahalanobis distance; Lee et al. 2018, section 2.1) for each modality and
each member of a fold ensemble: no image's own features are in it. Deeper layers were measured and tell less: they keep
what separates the classes, and drop what an image is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn

from osteo_models.core.errors import WeightsError
from osteo_models.core.terms import Modality
from osteo_models.models.keras_layers import FlattenChannelsLast
from osteo_models.serving.likeness import Gaussian, Numbers
from osteo_models.serving.likeness_file import pack_gaussian, read_gaussian

FEATURE_QUANTILE: Final = 0.99  # of the training images pass
MOST_BYTES: Final = 20_000_000


@dataclass(frozen=True)
class FeatureSpace:
    """The Gaussians by modality and member, and the largest distance that passes, by modality."""

    members: Mapping[Modality, Sequence[Gaussian]]
    limits: Mapping[Modality, float]

    def measure(self, features: Sequence[Numbers], modality: Modality) -> Numbers:
        """Squared Mahalanobis distances, the mean of the members.

        Shapes:
            features: for each of the k members (n, d); returns (n,).
        """
        pairs = zip(self.members[modality], features, strict=True)
        return np.mean([gaussian.distances(rows) for gaussian, rows in pairs], axis=0)

    def find_fault(self, features: Sequence[Numbers], modality: Modality | None) -> str | None:
        """Why an image is far from the training images; None where it is not.

        Args:
            features: Of one image, for each of the members (d,).
            modality: None where nothing says it: then it may be near to either.
        """
        faults: list[str] = []
        for name in self.members if modality is None else (modality,):
            distance = float(self.measure([row[None] for row in features], name)[0])
            if distance <= self.limits[name]:
                return None
            share = f"{FEATURE_QUANTILE:.0%} of the training images"
            faults.append(f"feature space: distance {distance:.0f}, {share} are within {self.limits[name]:.0f}")
        return faults[0]


@contextmanager
def watch_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """The features of a network, or of a tower, while it scores: a tensor (B, d) for each batch.

    A server may score in several threads: only this one is listened to.

    Raises:
        WeightsError: It has no layer of which it is known that features come into it.
    """
    taken: list[Tensor] = []
    own = threading.get_ident()

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == own:
            taken.append(_pool(inputs[0].float()))

    handle = _find_layer(network).register_forward_pre_hook(keep)
    try:
        yield taken
    finally:
        handle.remove()


def _pool(values: Tensor) -> Tensor:
    if values.ndim == 2:  # pooled by the backbone itself
        return values
    mean = values.mean(dim=(2, 3), keepdim=True)
    spread = (values - mean).square_().mean(dim=(2, 3)).sqrt_()  # `torch.std_mean` takes ten times as long
    return torch.cat((mean.flatten(1), spread), dim=1)


def _find_layer(network: nn.Module) -> nn.Module:
    """Where convolutions end: the flattening before the dense layers, or the head of a pretrained backbone."""
    found = [module for module in network.modules() if isinstance(module, FlattenChannelsLast)]
    found += [head for head in [getattr(network, "head", None)] if isinstance(head, nn.Module) and not found]
    if len(found) != 1:
        raise WeightsError(f"{len(found)} layers that take features", where=type(network).__name__, allowed="one")
    return found[0]


def save_features(path: Path, space: FeatureSpace) -> None:
    """Write the reference as safetensors."""
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, members in space.members.items():
        tensors[f"{name}.limit"] = np.array(space.limits[name], np.float32)
        for number, gaussian in enumerate(members):
            tensors |= pack_gaussian(f"{name}.{number}", gaussian)
    path.write_bytes(save(tensors))


def load_features(path: Path, widths: Mapping[Modality, Sequence[int]]) -> FeatureSpace:
    """Read what `save_features` wrote.

    Args:
        path: The file.
        widths: How many features each member has, for each modality that the network takes.

    Raises:
        WeightsError: It is missing, damaged, or the reference of another network.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WeightsError(f"{path.stat().st_size:,} bytes", where=str(path), allowed=f"up to {MOST_BYTES:,}")
        tensors = {key: value.astype(np.float64) for key, value in load(path.read_bytes()).items()}
        members: dict[Modality, list[Gaussian]] = {
            name: [read_gaussian(tensors, f"{name}.{number}", width) for number, width in enumerate(of_members)]
            for name, of_members in widths.items()
        }
        limits: dict[Modality, float] = {name: float(tensors[f"{name}.limit"]) for name in widths}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"no reference of training features ({error})", where=str(path)) from None
    if not all(np.isfinite(limit) and limit > 0 for limit in limits.values()):
        raise WeightsError("no reference of training features (a limit is no positive number)", where=str(path))
    return FeatureSpace(members, limits)


def as_rows(batches: Sequence[Tensor]) -> Numbers:
    """The features of all batches: (n, d)."""
    return torch.cat(list(batches)).cpu().numpy().astype(np.float64)
