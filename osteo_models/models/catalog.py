"""The catalogue of architectures: a name, the image sets it takes, the function that builds it, and its versions.

An architecture is added by decorating its builder; a builder's keyword-only parameters are its spec, so the signature
is the one place where a setting and its default stand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.core.terms import ImageSet

Builder = Callable[..., nn.Module]
EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """One architecture: `builder(generator, **spec)` makes it, `spec` holds its settings and their defaults.

    Attributes:
        versions: Versions of the code that computes its results, by name; raised when that code changes results.
        check: Looks at a spec for less than building costs; None: building is the check.
        marked_by: A spec key by which any name that is not in the catalogue is this architecture.
    """

    name: str
    image_sets: tuple[ImageSet, ...]
    builder: Builder
    spec: dict[str, Any]
    versions: Mapping[str, int]
    check: Callable[..., None] | None = None
    marked_by: str | None = None


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    image_sets: tuple[ImageSet, ...],
    versions: Mapping[str, int],
    check: Callable[..., None] | None = None,
    marked_by: str | None = None,
) -> Callable[[Builder], Builder]:
    """Put the decorated builder into the catalogue; see `Entry` for the arguments.

    Raises:
        ValueError: `name` is taken already.
    """

    def add(builder: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"architecture `{name}` is registered twice")
        parameters = inspect.signature(builder).parameters.values()
        spec = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        _ENTRIES[name] = Entry(name, image_sets, builder, spec, versions, check, marked_by)
        return builder

    return add


def list_architectures() -> list[str]:
    """Names of all architectures, sorted."""
    return sorted(_ENTRIES)


def find_entry(architecture: str, spec: Mapping[str, Any] = EMPTY) -> Entry:
    """The catalogue's entry of an architecture.

    Args:
        architecture: A name in the catalogue, or any name with a spec that says what it is, such as `backbone`.
        spec: Its settings.

    Raises:
        InputError: there is no such architecture.
    """
    marked = [entry for entry in _ENTRIES.values() if entry.marked_by in spec]
    found = _ENTRIES.get(architecture) or next(iter(marked), None)
    if found is None:
        raise InputError(f"unknown architecture `{architecture}`", allowed=", ".join(list_architectures()))
    return found


def complete_spec(architecture: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with the defaults of what it leaves out.

    Raises:
        InputError: unknown architecture or spec key.
    """
    entry = find_entry(architecture, spec)
    unknown = sorted(set(spec) - set(entry.spec))
    if unknown:
        raise InputError(
            f"unknown spec key {', '.join(f'`{key}`' for key in unknown)}",
            where=architecture,
            allowed=", ".join(entry.spec) or "no keys: this architecture is fixed",
        )
    return {**entry.spec, **spec}


def check_spec(architecture: str, spec: Mapping[str, Any]) -> None:
    """See that an architecture can be built with a spec; whether weights can be had is another question.

    Raises:
        InputError: as for `build`.
    """
    check = find_entry(architecture, spec).check
    if check is None:
        build(architecture, **spec)
    else:
        check(**complete_spec(architecture, spec))


def build(architecture: str, *, seed: int = 0, start: Mapping[str, Tensor] | None = None, **spec: Any) -> nn.Module:
    """A network with freshly drawn weights, which depend on `seed` alone, but for what a pretrained one starts from.

    Args:
        architecture: One of `list_architectures()`, or any name where the spec says what it is.
        seed: At least 0.
        start: Tensors of a pretrained backbone, for a start from ImageNet; without them they are looked for.
        spec: Settings of the architecture; `find_entry(architecture).spec` holds all of them with their defaults.

    Returns:
        forward(images: B,3,H,W in [0,1]) -> logits (B,); multimodal: forward(mri, ct) -> (logits_mri, logits_ct),
        one input and one output for each of its modalities.

    Raises:
        InputError: unknown architecture or spec key, or a value that the architecture refuses.
        WeightsError: a start from ImageNet is asked for, and its weights cannot be had.
    """
    complete_spec(architecture, spec)
    if seed < 0:
        raise InputError(f"`seed` is {seed}", where=architecture, allowed="0 or more")
    inputs = (torch.Generator().manual_seed(seed),) if start is None else (torch.Generator().manual_seed(seed), start)
    return find_entry(architecture, spec).builder(*inputs, **spec)


def build_unfilled(architecture: str, spec: Mapping[str, Any]) -> nn.Module:
    """A network whose weights are to be loaded from a file: no others are looked for.

    Raises:
        InputError: as for `build`.
    """
    random = {"weights": "random"} if "weights" in find_entry(architecture, spec).spec else {}
    return build(architecture, **{**spec, **random})


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Numbers held by a network, as Keras counts them.

    Returns:
        (total, trainable): total has the running statistics of batch norm in it, trainable has not.
    """
    parameters = list(network.parameters())
    statistics = sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters) + statistics, trainable
