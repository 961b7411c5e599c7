"""Grad-CAM++ and SmoothGrad of networks with one logit, through MONAI.

MONAI explains one class of several, and SmoothGrad takes a single image at a time. `_Evidence` presents a batch as one
image with one class, the sum of the images' evidence. Images do not interact in evaluation mode, so the gradient of the
sum contains each image's own gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from monai.visualize.class_activation_maps import GradCAMpp
from monai.visualize.gradient_based import SmoothGrad
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.core.terms import OSTEOPOROSIS
from osteo_models.training.inference import MAXIMUM, Images, as_tensor, repeatable_kernels

Method = Literal["gradcampp", "smoothgrad"]
Maps = npt.NDArray[np.float32]

METHODS: Final[dict[Method, str]] = {"gradcampp": "Grad-CAM++", "smoothgrad": "SmoothGrad"}
SAMPLES: Final = 16
NOISE: Final = 0.15  # of an image's range, as in the publication of SmoothGrad
BATCH: Final = 8  # what a large backbone has memory for


def pick_device(name: str = "auto") -> str:
    """The device to compute on.

    Args:
        name: `auto` (a GPU where PyTorch sees one), `cpu`, `cuda` or `cuda:0`.

    Raises:
        InputError: There is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        known = torch.device(name).type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known or (name.startswith("cuda") and not torch.cuda.is_available()):
        raise InputError(f"no device {name!r}", allowed="auto, cpu, or cuda where PyTorch sees a GPU")
    return name


def explain_images(
    network: nn.Module,
    images: Images,
    decisions: Sequence[int],
    *,
    seed: int,
    device: str = "cpu",
    samples: int = SAMPLES,
) -> dict[Method, Maps]:
    """The maps of both methods: the parts of an image that support the class that was decided on.

    Shapes:
        images: (B, 80, 60), grey; returns (B, 80, 60) for each method.

    Args:
        network: forward(images: B,3,H,W in [0,1]) -> logits (B,); it is left as it is.
        images: 8-bit images as `cohort` prepares them.
        decisions: The class to explain for each image: 1 osteoporosis, 0 control.
        seed: Seed of SmoothGrad's noise, which differs on a GPU; the map of an image does not depend on the others.
        device: Device to compute on.
        samples: Noisy copies of each image for SmoothGrad, at least 1; above 8 rounded up to a multiple of 8.

    Returns:
        Values of 0 or more, in units that differ from image to image.

    Raises:
        InputError: `images` are not 8-bit images of 80 x 60, or the network has no layer with a map.
    """
    grey = as_tensor(images).to(device).float().div_(MAXIMUM).unsqueeze(1)
    towards = torch.tensor([1.0 if decision == OSTEOPOROSIS else -1.0 for decision in decisions], device=device)
    frozen = _freeze(network, device)
    with repeatable_kernels(), torch.enable_grad():
        smoothgrad = _compute_smoothgrad(frozen, grey, towards, seed, samples)
        return {"gradcampp": _compute_gradcampp(frozen, grey, towards), "smoothgrad": smoothgrad}


def find_target_layer(network: nn.Module, grey: Tensor) -> str:
    """The name of the last layer of a network whose output is a map.

    That is the last module to finish, of those that run once, whose output is a map larger than 1 x 1: the last
    convolution with its activation, or the last block with what it adds.

    Shapes:
        grey: (B, 1, H, W) in [0, 1].

    Raises:
        InputError: No layer of the network has a map.
    """
    runs: dict[str, list[bool]] = {}
    modules = [(name, module) for name, module in network.named_modules() if name]
    handles = [module.register_forward_hook(partial(_note_run, name, runs)) for name, module in modules]
    try:
        with torch.no_grad():
            network(grey[:1].expand(-1, 3, -1, -1))
    finally:
        for handle in handles:
            handle.remove()
    maps = [name for name, kinds in runs.items() if kinds == [True]]
    if not maps:
        raise InputError("no layer with a map larger than 1 x 1", where=type(network).__name__, allowed="a CNN")
    return maps[-1]


def _note_run(name: str, runs: dict[str, list[bool]], _module: nn.Module, _given: object, output: object) -> None:
    """Record that a module ran, and whether its output is a map; names are in the order of the last run."""
    is_map = isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1
    runs[name] = [*runs.pop(name, []), is_map]


class _Evidence(nn.Module):
    """Summed evidence of grey images for their classes: any shape that holds B images of (H, W) -> (1, 1).

    The value is shifted to 0, and only its gradient is used: Grad-CAM++ takes the exponential of a score, which scales
    a map as a whole and would overflow for a sum over images.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()  # MONAI restores the mode of a module afterwards: batch norm must not learn from the images

    def forward(self, grey: Tensor, towards: Tensor) -> Tensor:
        colour = grey.reshape(-1, 1, *grey.shape[2:]).expand(-1, 3, -1, -1)
        logits = self.network(colour.contiguous(memory_format=torch.channels_last))
        if not logits.requires_grad:
            found, allowed = "no gradient reaches the image", "a network that computes without `no_grad`"
            raise InputError(found, where=type(self.network).__name__, allowed=allowed)
        return ((logits - logits.detach()) * towards).sum().reshape(1, 1)


def _freeze(network: nn.Module, device: str) -> nn.Module:
    """A copy for MONAI's hooks, without gradients of weights and without in-place layers, which overwrite maps."""
    frozen = copy.deepcopy(network).to(device).eval().requires_grad_(False)
    frozen.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # a third quicker on a CPU
    for module in frozen.modules():
        if vars(module).get("inplace"):
            vars(module)["inplace"] = False
    return frozen


def _compute_gradcampp(network: nn.Module, grey: Tensor, towards: Tensor) -> Maps:
    layer = f"network.{find_target_layer(network, grey)}"
    explain = GradCAMpp(_Evidence(network), target_layers=layer, postprocessing=_keep_map)
    maps = [
        explain(batch.clone().requires_grad_(), class_idx=0, towards=signs).detach()
        for batch, signs in zip(grey.split(BATCH), towards.split(BATCH), strict=True)
    ]
    return torch.cat(maps)[:, 0].cpu().numpy()


def _compute_smoothgrad(network: nn.Module, grey: Tensor, towards: Tensor, seed: int, samples: int) -> Maps:
    copies, passes = min(samples, BATCH), -(-samples // BATCH)
    explain = SmoothGrad(_Evidence(network), NOISE, n_samples=passes, magnitude=False, verbose=False)
    maps: list[Tensor] = []
    for image, sign in zip(grey, towards, strict=True):
        with _seeded(seed, grey.device):
            gradients = explain(image.unsqueeze(0).repeat(1, copies, 1, 1), index=0, towards=sign)
        maps.append(gradients[0].mean(dim=0).abs())
    return torch.stack(maps).cpu().numpy()


def _keep_map(maps: Tensor) -> Tensor:
    """Replaces MONAI's own step, which inverts a map."""
    return maps


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random state for MONAI's noise, and restore it afterwards."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        (torch.cuda if on_gpu else torch.default_generator).manual_seed(seed)
        yield
