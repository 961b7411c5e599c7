"""Networks small enough to know their maps by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """The weighted sum of the grey values: weights are (80, 60)."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1) * self.weights).flatten(1).sum(dim=1)


class OneConvolution(nn.Module):
    """A 1x1 convolution to two maps, the mean of each, and a weighted sum: Grad-CAM++ can be written down."""

    def __init__(self, filters: tuple[float, float], dense: tuple[float, float]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight = nn.Parameter(torch.tensor(filters).view(2, 1, 1, 1).expand(2, 3, 1, 1) / 3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(2, 1, bias=False)
        self.dense.weight = nn.Parameter(torch.tensor([dense]))

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.pool(self.relu(self.conv(images))).flatten(1)).squeeze(1)
