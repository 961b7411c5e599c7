"""What a network costs by its shape alone: parameters, and multiply-accumulates of one forward pass."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from osteo_models.models import build_unfilled, count_parameters, find_entry
from osteo_models.terms import IMAGE_COLUMNS, IMAGE_ROWS


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        macs: Multiply-accumulates of convolutions and dense layers for one image, of the network's own input size; for
            one pair of images with two inputs.
    """

    parameters: int
    trainable_parameters: int
    macs: int


def measure_cost(architecture: str, spec: Mapping[str, Any]) -> Cost:
    """Count during one forward pass of an untrained network; the counts hang on shapes alone.

    Raises:
        InputError: The architecture cannot be built with this spec.
    """
    return _measure(architecture, json.dumps(dict(spec), sort_keys=True))


@functools.lru_cache
def _measure(architecture: str, spec: str) -> Cost:
    settings = json.loads(spec)
    network = build_unfilled(architecture, settings).eval()
    image = torch.zeros(1, 3, IMAGE_ROWS, IMAGE_COLUMNS)
    paired = "multimodal" in find_entry(architecture, settings).image_sets
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*[image] * (2 if paired else 1))
    return Cost(*count_parameters(network), counter.get_total_flops() // 2)
