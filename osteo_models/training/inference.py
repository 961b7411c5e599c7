"""Scores of images: the path from stored images to probabilities that fits, evaluation and serving share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, MODALITIES, Modality, Precision
from osteo_models.training.recipe import Arithmetic, resolve_precision

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]

MAXIMUM = 255.0  # of an 8-bit image


def score_images(
    network: nn.Module,
    images: Images,
    *,
    modality: Modality | None = None,
    precision: Precision = "auto",
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> Scores:
    """Probability of osteoporosis for each image.

    Shapes: images: (m, 80, 60), grey.

    Args:
        network: Moved to `device`; its training mode is restored.
        images: 8-bit images as `cohort` prepares them.
        modality: Of all images; required by a multimodal network, which has a tower for each.
        precision: See `resolve_precision`.
        device: Device of the computation.
        batch_size: Images at a time; changes the memory, not the result.

    Returns:
        (m,) in [0, 1].

    Raises:
        InputError: `images` are not 8-bit images of 80 x 60, or the network cannot score such images by themselves.
    """
    pixels = as_tensor(images)
    scorer = find_tower(network, modality)
    place = torch.device(device)
    arithmetic = resolve_precision(precision, place)
    if next(network.parameters()).device != place:
        network.to(place)
    return score_rows(scorer, [pixels.to(place)], arithmetic, batch_size)


def as_tensor(images: Images | Features) -> Tensor:
    """Images as a tensor on the same memory where that may be written to, else on a copy (a read-only memory map).

    Raises:
        InputError: not (m, 80, 60) of uint8, and not features (m, F) of float32.
    """
    features = images.dtype == np.float32 and images.ndim == 2
    if not features and (images.dtype != np.uint8 or images.shape[1:] != (IMAGE_ROWS, IMAGE_COLUMNS)):
        raise InputError(
            f"images are {images.dtype} of shape {images.shape}",
            allowed=f"uint8 of shape (m, {IMAGE_ROWS}, {IMAGE_COLUMNS})",
        )
    plain = np.asarray(images)
    return torch.from_numpy(plain if plain.flags.writeable and plain.flags.c_contiguous else plain.copy())


def as_batch(pixels: Tensor) -> Tensor:
    """Grey 8-bit images (B, H, W) as a network's input (B, 3, H, W) in [0, 1]: three views of one channel.

    Features (B, F) are a head's input as they are.
    """
    if pixels.ndim == 2:
        return pixels
    return pixels.float().div_(MAXIMUM).unsqueeze(1).expand(-1, 3, -1, -1)


@contextmanager
def arithmetic_of(arithmetic: Arithmetic, device: torch.device) -> Iterator[None]:
    """Matrix products in `arithmetic`; the rest in float32."""
    if arithmetic == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, arithmetic)):
        yield


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """On a GPU: the same result at every run, and float32 that is float32, not TF32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def score_rows(network: nn.Module, inputs: list[Tensor], arithmetic: Arithmetic, batch_size: int) -> Scores:
    """Scores of image tensors that lie where the network lies: (m,), or (m, K) for a network with K outputs."""
    training = network.training
    if training:  # going through all modules takes as long as a third of one image
        network.eval()
    scores: list[Tensor] = []
    try:
        with repeatable_kernels(), torch.inference_mode(), arithmetic_of(arithmetic, inputs[0].device):
            for batch in zip(*(each.split(batch_size) for each in inputs), strict=True):
                logits = network(*(as_batch(each) for each in batch))
                outputs = torch.stack(logits, dim=1) if isinstance(logits, tuple) else logits
                scores.append(torch.sigmoid(outputs.float()))
    finally:
        if training:
            network.train()
    return torch.cat(scores).cpu().numpy() if scores else np.zeros(0, np.float32)


def find_tower(network: nn.Module, modality: Modality | None) -> nn.Module:
    """The network, or the tower of a multimodal one, that scores images of this modality.

    Raises:
        InputError: the network has towers and `modality` is None, or it scores none of them by itself.
    """
    tower: Callable[[Modality], nn.Module] | None = getattr(network, "tower", None)
    if tower is None:
        return network
    if modality is None:
        raise InputError("no `modality` given for a multimodal network", allowed=", ".join(MODALITIES))
    return tower(modality)
