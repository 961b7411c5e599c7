"""What stands on a pretrained backbone: one dense layer of 128 with ReLU, and the output."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    @torch.no_grad()
    def backpropagate(self, features: Tensor, target: Tensor) -> Tensor:
        """Put the gradients of the mean binary cross-entropy into `grad`, and give the loss.

        Written out, a step takes two thirds of the time: beside layers this small, autograd's bookkeeping is the work.
        The tensors in `grad` stay the same from step to step.
        """
        weight, bias, weights, offset = self.dense.weight, self.dense.bias, self.output.weight[0], self.output.bias
        of_weight, of_bias, of_weights, of_offset = self._gradients()
        hidden = torch.addmm(bias, features, weight.T).relu_()
        logits = torch.addmv(offset, hidden, weights)
        of_logits = torch.sigmoid(logits).sub_(target).div_(len(target))
        of_hidden = torch.outer(of_logits, weights).mul_(hidden > 0)
        torch.mv(hidden.T, of_logits, out=of_weights[0])
        torch.sum(of_logits, 0, keepdim=True, out=of_offset)
        torch.sum(of_hidden, 0, out=of_bias)
        torch.mm(of_hidden.T, features, out=of_weight)
        return functional.binary_cross_entropy_with_logits(logits, target)

    def _gradients(self) -> list[Tensor]:
        """`grad` of each parameter, made where there is none."""
        found: list[Tensor] = []
        for parameter in (self.dense.weight, self.dense.bias, self.output.weight, self.output.bias):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            found.append(parameter.grad)
        return found
