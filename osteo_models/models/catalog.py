"""The catalogue of architectures: a name, the image sets it takes, and the function that builds it.

An architecture is added by decorating its builder; a builder's keyword-only parameters are its spec, so the signature
is the one place where a setting and its default stand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from osteo_models.errors import InputError
from osteo_models.terms import ImageSet

SINGLE_INPUT: Final[tuple[ImageSet, ...]] = ("mri", "ct", "combined")
PAIRED_INPUT: Final[tuple[ImageSet, ...]] = ("multimodal",)

Builder = Callable[..., nn.Module]


@dataclass(frozen=True)
class Entry:
    """One architecture: `builder(generator, **spec)` makes it, `spec` holds its settings and their defaults."""

    name: str
    image_sets: tuple[ImageSet, ...]
    builder: Builder
    spec: dict[str, Any]


_ENTRIES: dict[str, Entry] = {}


def register(name: str, *, image_sets: tuple[ImageSet, ...]) -> Callable[[Builder], Builder]:
    """Put the decorated builder into the catalogue.

    Raises:
        ValueError: `name` is taken already.
    """

    def add(builder: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"architecture `{name}` is registered twice")
        parameters = inspect.signature(builder).parameters.values()
        spec = {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
        _ENTRIES[name] = Entry(name, image_sets, builder, spec)
        return builder

    return add


def list_architectures() -> list[str]:
    """Names of all architectures, sorted."""
    return sorted(_ENTRIES)


def find_entry(architecture: str) -> Entry:
    """The catalogue's entry of an architecture.

    Raises:
        InputError: there is no such architecture.
    """
    if architecture not in _ENTRIES:
        raise InputError(f"unknown architecture `{architecture}`", allowed=", ".join(list_architectures()))
    return _ENTRIES[architecture]


def build(architecture: str, *, seed: int = 0, **spec: Any) -> nn.Module:
    """A network with freshly drawn weights, which depend on `seed` alone.

    Args:
        architecture: One of `list_architectures()`.
        seed: At least 0.
        spec: Settings of the architecture; `find_entry(architecture).spec` holds all of them with their defaults.

    Returns:
        forward(images: B,3,H,W in [0,1]) -> logits (B,); multimodal: forward(mri, ct) -> (logits_mri, logits_ct).

    Raises:
        InputError: unknown architecture or spec key, or a value that the architecture refuses.
    """
    entry = find_entry(architecture)
    unknown = sorted(set(spec) - set(entry.spec))
    if unknown:
        raise InputError(
            f"unknown spec key {', '.join(f'`{key}`' for key in unknown)}",
            where=architecture,
            allowed=", ".join(entry.spec) or "no keys: this architecture is fixed",
        )
    if seed < 0:
        raise InputError(f"`seed` is {seed}", where=architecture, allowed="0 or more")
    return entry.builder(torch.Generator().manual_seed(seed), **spec)


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Numbers held by a network, as Keras counts them.

    Returns:
        (total, trainable): total has the running statistics of batch norm in it, trainable has not.
    """
    parameters = list(network.parameters())
    statistics = sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point())
    trainable = sum(each.numel() for each in parameters if each.requires_grad)
    return sum(each.numel() for each in parameters) + statistics, trainable
