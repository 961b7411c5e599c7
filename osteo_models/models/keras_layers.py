"""Layers with the arithmetic of the authors' framework: `same` padding, initial weights, batch norm, flatten order.

PyTorch's own defaults differ in each of these. Weights are drawn from a generator that is passed in: the global random
state is neither read nor moved.
"""

from __future__ import annotations

from typing import Final, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

VERSION: Final = 2  # of these layers' results; see `Entry.versions`

# Keras: momentum 0.99 is the share of the old average, PyTorch's momentum the share of the new batch.
BATCH_NORM_EPSILON: Final = 1e-3
BATCH_NORM_MOMENTUM: Final = 0.01

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Linear)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis, so that ceil(size / stride) positions come out; an odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with `same` padding, uneven where the stride asks for it (5x5, stride 2, even size: 1 and 2)."""

    def forward(self, input: Tensor) -> Tensor:
        images, kernels = join_equal_channels(input, self.weight)
        top, bottom = same_padding(input.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(input.shape[3], self.kernel_size[1], self.stride[1])
        if top == bottom and left == right:  # without a padded copy
            return functional.conv2d(images, kernels, self.bias, self.stride, (top, left))
        padded = functional.pad(images, (left, right, top, bottom))
        return functional.conv2d(padded, kernels, self.bias, self.stride)


class ValidConv2d(nn.Conv2d):
    """A convolution with `valid` padding: the kernel stays inside the image."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(*join_equal_channels(input, self.weight), self.bias, self.stride)


def join_equal_channels(images: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """One channel and summed kernels where all channels of `images` are views of one, as `expand` makes them.

    The convolution is linear, so the result is the same, with a third of the products for a grey image.

    Shapes: images: (B, C, H, W); kernels: (F, C, h, w); returns both, or (B, 1, H, W) and (F, 1, h, w).
    """
    if images.shape[1] == 1 or images.stride(1) != 0:
        return images, kernels
    # One channel has no memory layout of its own. With these strides PyTorch takes it for channels-last.
    return images[:, 0].unsqueeze(-1).permute(0, 3, 1, 2), kernels.sum(1, keepdim=True)


class FlattenChannelsLast(nn.Module):
    """B,C,H,W -> B,H*W*C: the order of the authors' framework, and a view where memory is channels-last."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(1)


class LogitLayer(nn.Linear):
    """The last dense layer, B,F -> B; in its weights' float32 even under autocast.

    Three digits of bfloat16 would put scores on a coarse grid and tie images that differ; the layer itself is tiny.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(input.device.type):  # entering a context costs more than the layer
            return super().forward(input).squeeze(1)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype)).squeeze(1)


def make_conv(
    generator: torch.Generator, channels: int, filters: int, kernel: int, *, stride: int = 1, same: bool = True
) -> nn.Conv2d:
    """A square convolution with Keras' initial weights; `same=False` is Keras' `valid`: no padding."""
    kind = SameConv2d if same else ValidConv2d
    return _initialise(kind, generator, channels, filters, kernel, stride=stride)


def make_dense(generator: torch.Generator, features: int, units: int) -> nn.Linear:
    """A dense layer with Keras' initial weights."""
    return _initialise(nn.Linear, generator, features, units)


def make_logit_layer(generator: torch.Generator, features: int) -> LogitLayer:
    """The last dense layer with Keras' initial weights."""
    return _initialise(LogitLayer, generator, features, 1)


def make_batch_norm(filters: int) -> nn.BatchNorm2d:
    """Batch norm with Keras' constants."""
    return nn.BatchNorm2d(filters, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


def _initialise(kind: type[Layer], generator: torch.Generator, *sizes: int, **settings: int) -> Layer:
    """A layer with Glorot-uniform kernel and zero bias; PyTorch's own drawing from global state is skipped."""
    layer = cast(Layer, nn.utils.skip_init(kind, *sizes, **settings))
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
