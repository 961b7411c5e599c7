"""The paper's proposed networks: the dual-block tower (unimodal), and one for each modality (multimodal).

A tower adds what two blocks see in the same image: 3x3 filters with max-pooling, and 5x5 filters with stride 2. ReLU
comes before batch norm, as published. Modules stand in the order of the published layers, block by block.

Fusion. `fusion="loss"` (as published): complete towers, trained on one summed loss; each scores its own modality alone.
`fusion="feature"` (as the text of the paper has it): one classifier on the features of all towers, so an image of each
modality is needed for a score.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, MODALITIES, SINGLE_INPUT, Modality
from osteo_models.models.catalog import register
from osteo_models.models.keras_layers import VERSION as LAYERS
from osteo_models.models.keras_layers import (
    FlattenChannelsLast,
    make_batch_norm,
    make_conv,
    make_dense,
    make_logit_layer,
)

Fusion = Literal["loss", "feature"]

VERSION: Final = 1  # of the results of these networks; see `Entry.versions`
VERSIONS: Final = {"dual_block": VERSION, "layers": LAYERS}

BLOCK_FILTERS: Final = 32
MERGED_FILTERS: Final = 64
DENSE_UNITS: Final = (32, 16)
TOWER_FEATURES: Final = (IMAGE_ROWS // 4) * (IMAGE_COLUMNS // 4) * MERGED_FILTERS  # 19,200


class DualBlockFeatures(nn.Module):
    """Images to features.

    Shapes: forward: (B, 3, 80, 60) -> (B, 19200); in the order rows, columns, channels.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.block1 = nn.Sequential(
            OrderedDict(
                conv1=make_conv(generator, 3, BLOCK_FILTERS, 3),
                relu1=nn.ReLU(inplace=True),
                norm1=make_batch_norm(BLOCK_FILTERS),
                pool1=nn.MaxPool2d(2),
                conv2=make_conv(generator, BLOCK_FILTERS, BLOCK_FILTERS, 3),
                relu2=nn.ReLU(inplace=True),
                norm2=make_batch_norm(BLOCK_FILTERS),
                pool2=nn.MaxPool2d(2),
            )
        )
        self.block2 = nn.Sequential(
            OrderedDict(
                conv1=make_conv(generator, 3, BLOCK_FILTERS, 5, stride=2),
                relu1=nn.ReLU(inplace=True),
                norm1=make_batch_norm(BLOCK_FILTERS),
                conv2=make_conv(generator, BLOCK_FILTERS, BLOCK_FILTERS, 5, stride=2),
                relu2=nn.ReLU(inplace=True),
                norm2=make_batch_norm(BLOCK_FILTERS),
            )
        )
        self.merge = make_conv(generator, BLOCK_FILTERS, MERGED_FILTERS, 5)
        self.relu = nn.ReLU(inplace=True)
        self.flatten = FlattenChannelsLast()

    def forward(self, images: Tensor) -> Tensor:
        merged = self.merge(self.block1(images) + self.block2(images))
        return self.flatten(self.relu(merged))


class Classifier(nn.Module):
    """Features to logits: (B, F) -> (B,)."""

    def __init__(self, generator: torch.Generator, features: int) -> None:
        super().__init__()
        first, second = DENSE_UNITS
        self.dense1 = make_dense(generator, features, first)
        self.dense2 = make_dense(generator, first, second)
        self.output = make_logit_layer(generator, second)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(torch.relu(self.dense2(torch.relu(self.dense1(features)))))


class DualBlock(nn.Module):
    """One tower: (B, 3, 80, 60) in [0, 1] -> logits (B,)."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.features = DualBlockFeatures(generator)
        self.classifier = Classifier(generator, TOWER_FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class LossFusion(nn.Module):
    """A tower for each modality, which share nothing but the loss.

    Shapes: forward: an image tensor (B, 3, 80, 60) for each modality, in order -> logits (B,) for each.
    """

    fusion: Final = "loss"

    def __init__(self, generator: torch.Generator, modalities: Sequence[Modality]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        for name in self.modalities:
            self.add_module(name, DualBlock(generator))

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        towers = map(self.get_submodule, self.modalities)
        return tuple(tower(batch) for tower, batch in zip(towers, images, strict=True))

    def tower(self, modality: Modality) -> nn.Module:
        """The network that scores images of one modality.

        Raises:
            InputError: There is no tower for `modality`.
        """
        return self.get_submodule(_check_known(modality, self.modalities))


class FeatureFusion(nn.Module):
    """One classifier on the features of all towers.

    Shapes: forward: an image tensor (B, 3, 80, 60) for each modality, in order -> the same logits (B,) for each.
    """

    fusion: Final = "feature"

    def __init__(self, generator: torch.Generator, modalities: Sequence[Modality]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        for name in self.modalities:
            self.add_module(name, DualBlockFeatures(generator))
        self.classifier = Classifier(generator, len(self.modalities) * TOWER_FEATURES)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        towers = map(self.get_submodule, self.modalities)
        features = [tower(batch) for tower, batch in zip(towers, images, strict=True)]
        return (self.classifier(torch.cat(features, dim=1)),) * len(self.modalities)

    def tower(self, modality: Modality) -> nn.Module:
        """Always an error: the features of the other modalities would be missing.

        Raises:
            InputError: always.
        """
        titles = [MODALITIES[name].title for name in self.modalities]
        raise InputError(
            f"`{_check_known(modality, self.modalities)}` images cannot be scored by themselves",
            where='multimodal with fusion="feature"',
            allowed=f"one image each of {', '.join(titles)}: its classifier takes the features of all",
            remedy='for scores of one modality train with fusion="loss"',
        )


@register("unimodal", image_sets=SINGLE_INPUT, versions=VERSIONS)
def build_unimodal(generator: torch.Generator) -> DualBlock:
    """The dual-block network; 704,705 trainable parameters. Source: figure 3 of the paper."""
    return DualBlock(generator)


@register("multimodal", image_sets=("multimodal",), versions=VERSIONS)
def build_multimodal(
    generator: torch.Generator, *, fusion: Fusion = "loss", modalities: Sequence[Modality] = tuple(MODALITIES)
) -> LossFusion | FeatureFusion:
    """A tower for each modality; 1,409,410 trainable parameters for two, 1,408,833 with `fusion="feature"`.

    Raises:
        InputError: `fusion` is neither of the two, or `modalities` are not at least two different known ones.
    """
    if len(modalities) < 2 or len(set(modalities)) < len(modalities) or not set(modalities) <= MODALITIES.keys():
        allowed = f"two or more of {', '.join(MODALITIES)}, each once"
        raise InputError(f"`modalities` is {list(modalities)}", where="multimodal", allowed=allowed)
    if fusion not in get_args(Fusion):
        raise InputError(f"`fusion` is {fusion!r}", where="multimodal", allowed=", ".join(get_args(Fusion)))
    return (LossFusion if fusion == "loss" else FeatureFusion)(generator, modalities)


def _check_known(modality: Modality, modalities: Sequence[Modality]) -> Modality:
    if modality not in modalities:
        raise InputError(f"unknown modality `{modality}`", allowed=", ".join(modalities))
    return modality
