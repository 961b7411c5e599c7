"""The head of a pretrained backbone: one dense layer of 128 with ReLU, and the output."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from osteo_models.models.keras_layers import make_dense, make_logit_layer

VERSION: Final = 1  # of its results; see `Entry.versions`
HEAD_UNITS: Final = 128


class Head(nn.Module):
    """Features (B, F) -> logits (B,), with Keras' initial weights.

    In float32 even under autocast, so that stored features and fresh ones give the same.
    """

    def __init__(self, generator: torch.Generator, features: int) -> None:
        super().__init__()
        self.dense = make_dense(generator, features, HEAD_UNITS)
        self.output = make_logit_layer(generator, HEAD_UNITS)

    def forward(self, features: Tensor) -> Tensor:
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self.forward(features.float())
        return self.output(torch.relu(self.dense(features)))
