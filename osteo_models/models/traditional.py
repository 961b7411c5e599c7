"""The traditional CNN: convolutions, each with ReLU and pooling, then dense layers.

Its defaults are the paper's: (64, 32) filters, (128, 64) dense units. The paper found them by adding and removing
layers and changing filter sizes and strides; the spec spans that space, and a spec that cannot be built is refused
before any weight is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, SINGLE_INPUT
from osteo_models.models.catalog import find_entry, register
from osteo_models.models.keras_layers import VERSION as LAYERS
from osteo_models.models.keras_layers import FlattenChannelsLast, make_conv, make_dense, make_logit_layer

VERSION: Final = 1  # of its results; see `Entry.versions`

ARCHITECTURE: Final = "traditional_cnn"
PADDINGS: Final = ("same", "valid")
POOLINGS: Final = ("max", "average")

Setting = int | Sequence[int]


@dataclass(frozen=True)
class ConvPlan:
    """One convolution with its pooling, its positions on the image, and the rows and columns that it leaves."""

    filters: int
    kernel: int
    stride: int
    pool: int
    positions: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Cost:
    """What a spec costs: multiply-accumulates of one image, and parameters."""

    macs: int
    parameters: int


class TraditionalCnn(nn.Module):
    """Images (B, 3, 80, 60) in [0, 1] -> logits (B,)."""

    def __init__(
        self, generator: torch.Generator, plans: Sequence[ConvPlan], dense: Sequence[int], *, same: bool, pooling: str
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for number, plan in enumerate(plans, start=1):
            conv = make_conv(generator, channels, plan.filters, plan.kernel, stride=plan.stride, same=same)
            self.features.add_module(f"conv{number}", conv)
            layers: list[tuple[str, nn.Module]] = [(f"relu{number}", nn.ReLU(inplace=True))]
            # The maximum and ReLU commute: pooling first gives the values and gradients of the published order at a
            # quarter of ReLU's work. The average and ReLU do not.
            if plan.pool > 1 and pooling == "max":
                layers.insert(0, (f"pool{number}", nn.MaxPool2d(plan.pool)))
            elif plan.pool > 1:
                layers.append((f"pool{number}", nn.AvgPool2d(plan.pool)))
            for name, layer in layers:
                self.features.add_module(name, layer)
            channels = plan.filters
        self.features.add_module("flatten", FlattenChannelsLast())
        self.classifier = nn.Sequential()
        width = plans[-1].rows * plans[-1].columns * channels
        for number, units in enumerate(dense, start=1):
            self.classifier.add_module(f"dense{number}", make_dense(generator, width, units))
            self.classifier.add_module(f"relu{number}", nn.ReLU())
            width = units
        self.classifier.add_module("output", make_logit_layer(generator, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


@register(ARCHITECTURE, image_sets=SINGLE_INPUT, versions={"traditional": VERSION, "layers": LAYERS})
def build_traditional(
    generator: torch.Generator,
    *,
    filters: Sequence[int] = (64, 32),
    kernels: Setting = 3,
    strides: Setting = 1,
    pools: Setting = 2,
    pooling: str = "max",
    padding: str = "same",
    dense: Sequence[int] = (128, 64),
) -> TraditionalCnn:
    """The traditional CNN; `kernels`, `strides` and `pools` are one number for all convolutions, or one for each.

    Args:
        filters: Filters of each convolution, at least one convolution.
        kernels: Side of the square kernels.
        strides: Strides of the convolutions.
        pools: Side and stride of the pooling after each convolution; 1: no pooling.
        pooling: `max` or `average`.
        padding: `same` (kernel on every pixel, zeros outside) or `valid` (kernel inside the image only).
        dense: Units of the dense layers before the last one; empty: none.

    Raises:
        InputError: a value is not a positive integer, lists differ in length, or the image gets too small for a layer.
    """
    for name, value, allowed in (("padding", padding, PADDINGS), ("pooling", pooling, POOLINGS)):
        if value not in allowed:
            raise InputError(f"`{name}` is {value!r}", where=ARCHITECTURE, allowed=", ".join(allowed))
    widths = _read("dense", dense)
    plans = plan_convolutions(filters, kernels, strides, pools, same=padding == "same")
    return TraditionalCnn(generator, plans, widths, same=padding == "same", pooling=pooling)


def count_cost(**spec: Any) -> Cost:
    """What a spec costs, without building it; keys and defaults are those of `build_traditional`.

    Raises:
        InputError: the convolutions or the dense layers cannot be built.
    """
    full = find_entry(ARCHITECTURE).spec | spec
    settings = (full[name] for name in ("filters", "kernels", "strides", "pools"))
    plans = plan_convolutions(*settings, same=full["padding"] == "same")
    macs = parameters = 0
    channels = 3
    for plan in plans:
        weights = plan.kernel**2 * channels * plan.filters
        macs, parameters = macs + weights * plan.positions, parameters + weights + plan.filters
        channels = plan.filters
    width = plans[-1].rows * plans[-1].columns * channels
    for units in [*_read("dense", full["dense"]), 1]:
        macs, parameters = macs + width * units, parameters + (width + 1) * units
        width = units
    return Cost(macs, parameters)


def plan_convolutions(
    filters: Sequence[int], kernels: Setting, strides: Setting, pools: Setting, *, same: bool
) -> list[ConvPlan]:
    """Follow the image through the convolutions without building them.

    Raises:
        InputError: as for `build_traditional`.
    """
    counts = _read("filters", filters)
    if not counts:
        raise InputError("`filters` is empty", where=ARCHITECTURE, allowed="at least one convolution")
    settings = [
        _for_each(name, value, len(counts))
        for name, value in [("kernels", kernels), ("strides", strides), ("pools", pools)]
    ]
    rows, columns = IMAGE_ROWS, IMAGE_COLUMNS
    plans: list[ConvPlan] = []
    for number, (count, kernel, stride, pool) in enumerate(zip(counts, *settings, strict=True), start=1):
        where = f"{ARCHITECTURE}, convolution {number}"
        if not same and kernel > min(rows, columns):
            raise InputError(f"kernel {kernel} is larger than its {rows} x {columns} input", where=where)
        rows, columns = (_left(side, kernel, stride, same) for side in (rows, columns))
        positions = rows * columns
        if pool > min(rows, columns):
            raise InputError(f"pool {pool} is larger than the {rows} x {columns} map it is given", where=where)
        rows, columns = rows // pool, columns // pool
        plans.append(ConvPlan(count, kernel, stride, pool, positions, rows, columns))
    return plans


def _left(side: int, kernel: int, stride: int, same: bool) -> int:
    """Positions of a kernel along one side."""
    return -(-side // stride) if same else (side - kernel) // stride + 1


def _for_each(name: str, value: Setting, count: int) -> list[int]:
    values = _read(name, [value] * count if isinstance(value, int) else value)
    if len(values) != count:
        raise InputError(
            f"`{name}` has {len(values)} values for {count} convolutions",
            where=ARCHITECTURE,
            allowed=f"one number, or {count}",
        )
    return values


def _read(name: str, values: Sequence[int]) -> list[int]:
    """The values as a list of positive integers; what comes from a file may be anything, one number for a list too."""
    numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    wrong = [number for number in numbers if isinstance(number, bool) or not isinstance(number, int) or number < 1]
    if wrong:
        allowed = "positive integers"
        raise InputError(f"`{name}` holds {wrong[0]!r}", where=ARCHITECTURE, allowed=allowed)
    return [int(number) for number in numbers]
