"""Features of a network while it scores: what its dense layers get.

Of each channel of the last convolution the mean and the spread over the image; of a pretrained backbone its pooled
features. Deeper layers are less sensitive: they keep what separates the classes and drop what an image is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from osteo_models.core.errors import WeightsError
from osteo_models.models.keras_layers import FlattenChannelsLast


@contextmanager
def capture_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the features of a network, or of a tower, while it scores: a tensor (B, d) for each batch.

    A server may score in several threads: only those of the calling thread are collected.

    Raises:
        WeightsError: The network has no layer that is known to take features.
    """
    captured: list[Tensor] = []
    own = threading.get_ident()

    def capture(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == own:
            captured.append(_pool(inputs[0].float()))

    handle = _find_layer(network).register_forward_pre_hook(capture)
    try:
        yield captured
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
