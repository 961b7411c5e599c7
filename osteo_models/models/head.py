"""What stands on a pretrained backbone: one dense layer of 128 with ReLU, and the output."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from osteo_models.models.keras_layers import make_dense, make_logit_layer

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

    @torch.no_grad()
    def backpropagate(self, features: Tensor, target: Tensor) -> Tensor:
        """Put the gradients of the mean binary cross-entropy into `grad`, and give the loss.

        Written out, a step takes two thirds of the time: beside layers this small, autograd's bookkeeping is the work.
        """
        dense, output = self.dense, self.output
        hidden = torch.relu_(dense(features))
        logits = output(hidden)
        of_logits = (torch.sigmoid(logits) - target) / len(target)
        of_hidden = torch.outer(of_logits, output.weight[0]) * (hidden > 0)
        output.weight.grad, output.bias.grad = (of_logits @ hidden)[None], of_logits.sum()[None]
        dense.bias.grad = of_hidden.sum(0)
        if dense.weight.grad is None:
            dense.weight.grad = torch.empty_like(dense.weight)
        torch.mm(of_hidden.T, features, out=dense.weight.grad)  # into memory that the cache still holds
        return functional.binary_cross_entropy_with_logits(logits, target)
