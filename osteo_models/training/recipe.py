"""How a network is trained: the paper's recipe, and the number format of the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch

from osteo_models.core.errors import InputError
from osteo_models.core.terms import Precision

Arithmetic = Literal["float32", "bfloat16", "float16"]

ADAM_EPSILON: Final = 1e-7  # Keras' default; PyTorch's is 1e-8
# What a CPU needs to multiply in bfloat16; without it bfloat16 is emulated and slower than float32.
BFLOAT16_INSTRUCTIONS: Final = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Recipe:
    """Adam on binary cross-entropy without augmentation; the defaults are the paper's, params.yaml checks the values.

    Args:
        epochs: At least 1.
        batch_size: At least 1.
        learning_rate: Above 0.
        precision: `auto` takes the fastest arithmetic that the device has in hardware.
        batch_norm_momentum: In Keras' sense, from 0 to below 1: the share of the running statistics that a step keeps.
            0.99, its default, takes some 700 steps to forget where it started; fewer epochs need a smaller one.

    Source: paper, "Experiments"; Keras' defaults where the paper is silent.
    """

    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 1e-3
    precision: Precision = "auto"
    batch_norm_momentum: float = 0.99


def resolve_precision(precision: Precision, device: str | torch.device) -> Arithmetic:
    """The arithmetic that `precision` means on a device; matrix products only, weights and losses stay float32.

    Args:
        precision: `auto`: bfloat16 where the device has it in hardware; else float16 on a CUDA GPU; else float32.
        device: Such as `cpu` or `cuda:0`.

    Raises:
        InputError: there is no such device here, or it cannot do what is asked for.
    """
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"no GPU for device `{where}`", allowed="cpu", remedy="see `torch.cuda.is_available()`")
    if precision == "auto":
        if has_bfloat16(where):
            return "bfloat16"
        return "float16" if where.type == "cuda" else "float32"
    if precision == "float16" and where.type != "cuda":
        raise InputError(f"`precision` is float16 on `{where}`", where="recipe", allowed="float16 on a CUDA GPU only")
    if precision == "bfloat16" and where.type == "cuda" and not has_bfloat16(where):
        raise InputError(f"`{where}` has no bfloat16", where="recipe", allowed="auto, float32, float16")
    return precision


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)
