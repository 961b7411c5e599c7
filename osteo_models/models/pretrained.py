"""Networks of timm as feature extractors: a backbone with global pooling, one dense layer of 128, and the output.

The only importer of timm, which costs seconds: it is imported when a backbone is built, not with this module, so that
workers which train a head on stored features never wait for it.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from osteo_models.core.errors import InputError
from osteo_models.core.terms import SINGLE_INPUT
from osteo_models.models.catalog import register
from osteo_models.models.head import VERSION as HEAD
from osteo_models.models.head import Head
from osteo_models.models.keras_layers import VERSION as LAYERS
from osteo_models.models.pretrained_weights import WeightsFile, find_weights, read_weights

VERSION: Final = 1  # of what the backbones compute; see `Entry.versions`

Weights = Literal["imagenet", "random"]
Transfer = Literal["frozen", "full"]

# The networks of the paper, and one whose weights an installed package carries; timm's name and the tag of its weights.
BACKBONES: Final[Mapping[str, str]] = {
    "efficientnet_b0": "efficientnet_b0.ra_in1k",
    "inception_v3": "inception_v3.tv_in1k",
    "resnet50": "resnet50.a1_in1k",
    "inception_resnet_v2": "inception_resnet_v2.tf_in1k",
    "efficientnetv2_s": "tf_efficientnetv2_s.in1k",
    "convnext_tiny": "convnext_tiny.fb_in1k",
    "efficientnet_lite0": "tf_efficientnet_lite0.in1k",
}
GENERIC: Final = "timm"  # any other network of timm: a spec with a `backbone`

_IMPORTING = threading.Lock()
_declared: list[torch.library.Library] = []  # a declaration lasts as long as its object


@dataclass(frozen=True)
class Backbone:
    """What timm says of a backbone.

    Attributes:
        name: With the tag of its weights, such as `resnet50.a1_in1k`.
        hub_id: The hub's repository of the weights; empty where there is none.
        size: Rows and columns of its input.
        mean: Of each channel, taken off.
        std: Of each channel, divided by.
        interpolation: How images were resized for it.
    """

    name: str
    hub_id: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


class PretrainedNetwork(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> logits (B,); the images are resized and normalised as the backbone has them."""

    keeps_batch_norm: Final = True  # timm's momentum stays, whatever the recipe says

    def __init__(self, backbone: nn.Module, about: Backbone, head: Head, *, frozen: bool) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self._about, self._frozen = about, frozen
        if frozen:
            self.backbone.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> pooled features (B, F)."""
        about, mode = self._about, self._about.interpolation
        inputs = images[:, :1] if images.stride(1) == 0 else images  # of equal channels one is resized
        # Bicubic interpolation swings past black and white.
        resized = functional.interpolate(inputs, about.size, mode=mode, align_corners=False).clamp(0, 1)
        mean, std = (resized.new_tensor(values).view(1, -1, 1, 1) for values in (about.mean, about.std))
        return self.backbone(((resized - mean) / std).contiguous(memory_format=torch.channels_last))

    def train(self, mode: bool = True) -> PretrainedNetwork:
        """As any module's, but a frozen backbone stays in inference mode: its batch norm must not learn."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self


def build_pretrained(
    generator: torch.Generator,
    start: Mapping[str, Tensor] | None = None,
    *,
    backbone: str = "",
    weights: Weights = "imagenet",
    transfer: Transfer = "frozen",
) -> PretrainedNetwork:
    """A network of timm under a new head.

    Args:
        generator: Of the head's first weights, and of the backbone's where they are random.
        start: The backbone's tensors, from `read_initial_weights`; without them ImageNet weights are looked for in
            the installed package and in the hub.
        backbone: timm's name of it, with or without the tag of its weights.
        weights: What the backbone starts from.
        transfer: `frozen` trains the head alone, `full` everything.

    Raises:
        InputError: A value is none of those above.
        WeightsError: The ImageNet weights cannot be had.
    """
    check_choice(backbone=backbone, weights=weights, transfer=transfer)
    about = describe_backbone(backbone)
    body = make_backbone(about.name, seed=generator.initial_seed())
    if start is None and weights == "imagenet":
        start = read_initial_weights(about, find_weights(about.name, hub_id=about.hub_id, folder=None))
    if start is not None:
        body.load_state_dict(dict(start))
    return PretrainedNetwork(body, about, Head(generator, count_features(body)), frozen=transfer == "frozen")


def check_choice(*, backbone: Any = "", weights: Any = "imagenet", transfer: Any = "frozen") -> None:
    """See that a spec names a network of timm and known choices.

    Raises:
        InputError: It does not.
    """
    for name, value, allowed in (
        ("weights", weights, get_args(Weights)),
        ("transfer", transfer, get_args(Transfer)),
    ):
        if value not in allowed:
            raise InputError(f"`{name}` is {value!r}", where=str(backbone), allowed=", ".join(allowed))
    if backbone not in BACKBONES.values():
        describe_backbone(backbone)


def describe_backbone(name: str) -> Backbone:
    """What timm says of a backbone.

    Raises:
        InputError: timm has no network, or no weights, of this name.
    """
    timm = load_timm()
    if not isinstance(name, str) or not timm.is_model(name):
        near = difflib.get_close_matches(str(name), timm.list_models(), n=3, cutoff=0.4)
        allowed = "a name of timm" + (f", such as {', '.join(near)}" if near else "")
        raise InputError(f"`backbone` is {name!r}", allowed=allowed, remedy="`timm.list_models()` gives all of them")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
        raise InputError(f"`backbone` is {name!r}", allowed=tags or "a name without a tag") from None
    tagged = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    return Backbone(
        tagged, config.hf_hub_id or "", data["input_size"][1:], data["mean"], data["std"], data["interpolation"]
    )


def make_backbone(name: str, *, seed: int = 0, classes: int = 0) -> nn.Module:
    """A backbone with weights drawn from a seed; with `classes`, under its own classifier of so many.

    The global random state is as it was afterwards.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return load_timm().create_model(name, pretrained=False, num_classes=classes)


def count_features(backbone: nn.Module) -> int:
    """How many features a backbone gives."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # pyright: ignore[reportArgumentType]


def find_initial_weights(spec: Mapping[str, Any], folder: Path | None) -> tuple[Backbone, WeightsFile | None]:
    """The backbone of a whole spec and its file of weights; None where it starts from random ones.

    Raises:
        InputError: The spec is wrong.
        WeightsError: The ImageNet weights cannot be had.
    """
    check_choice(**spec)
    about = describe_backbone(spec["backbone"])
    random = spec["weights"] == "random"
    return about, None if random else find_weights(about.name, hub_id=about.hub_id, folder=folder)


def read_initial_weights(about: Backbone, file: WeightsFile | None, *, seed: int = 0) -> dict[str, Tensor]:
    """The tensors that a backbone starts from: a file's, or drawn from the seed where there is none.

    Raises:
        WeightsError: The file is damaged, or is another network's.
    """
    drawn = make_backbone(about.name, seed=seed).state_dict()
    return (
        dict(drawn) if file is None else read_weights(file, {key: tuple(tensor.shape) for key, tensor in drawn.items()})
    )


def load_timm() -> ModuleType:
    """timm, imported when it is first asked for.

    timm imports torchvision, whose release from PyPI fails on import beside a PyTorch without CUDA: its compiled part
    cannot be loaded, so operators that it describes do not exist. Declaring them is enough, none of them is ever run.
    Nothing is declared where torchvision loads by itself.
    """
    with _IMPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, that it cannot read image files
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            importlib.import_module("torchvision")
        timm = importlib.import_module("timm")
        importlib.import_module("timm.data")
        return timm


_about: dict[str, Any] = {
    "image_sets": SINGLE_INPUT,
    "versions": {"pretrained": VERSION, "head": HEAD, "layers": LAYERS},
    "check": check_choice,
}
for _name, _backbone in BACKBONES.items():
    register(_name, **_about)(partial(build_pretrained, backbone=_backbone))
register(GENERIC, marked_by="backbone", **_about)(build_pretrained)
