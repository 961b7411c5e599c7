"""The references of `likeness` as a file: safetensors, so plain numbers and no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from osteo_models.core.errors import WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, MODALITIES, Modality
from osteo_models.serving.likeness import BLOCK, CHECKS, PERCENTILES, Gaussian, Likeness, Numbers, Reference

PARTS: Final = ("mean", "axes", "variances", "rest")  # of a Gaussian
MOST_BYTES: Final = 4_000_000  # some forty times what a reference takes


def save_likeness(path: Path, likeness: Likeness) -> None:
    """Write the references as safetensors."""
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, item in likeness.references.items():
        tensors[f"{name}.limits"] = item.limits.astype(np.float32)
        for kind in ("tones", "structure"):
            tensors |= pack_gaussian(f"{name}.{kind}", getattr(item, kind))
    path.write_bytes(save(tensors))


def load_likeness(path: Path) -> Likeness:
    """Read what `save_likeness` wrote.

    Raises:
        WeightsError: It is missing, damaged, or no reference of images of this size.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WeightsError(f"{path.stat().st_size:,} bytes", where=str(path), allowed=f"up to {MOST_BYTES:,}")
        tensors = {key: value.astype(np.float64) for key, value in load(path.read_bytes()).items()}
        names: list[Modality] = [name for name in MODALITIES if f"{name}.limits" in tensors]
        references: dict[Modality, Reference] = {name: _read_reference(tensors, name) for name in names}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"no reference of training images ({error})", where=str(path)) from None
    if not references:
        raise WeightsError("no reference of training images", where=str(path), allowed=" or ".join(MODALITIES))
    return Likeness(references)


def _read_reference(tensors: Mapping[str, Numbers], name: Modality) -> Reference:
    sizes = {"tones": len(PERCENTILES) + 2, "structure": IMAGE_ROWS * IMAGE_COLUMNS // BLOCK**2}
    found = {kind: read_gaussian(tensors, f"{name}.{kind}", size) for kind, size in sizes.items()}
    limits = tensors[f"{name}.limits"]
    if limits.shape != (len(CHECKS),) or not np.isfinite(limits).all():
        raise ValueError(f"`{name}.limits` has other shapes or values than it should")
    return Reference(found["tones"], found["structure"], limits)


def pack_gaussian(prefix: str, gaussian: Gaussian) -> dict[str, npt.NDArray[np.float32]]:
    """A Gaussian as tensors, by names that begin so."""
    return {f"{prefix}.{part}": getattr(gaussian, part).astype(np.float32, order="C") for part in PARTS}


def read_gaussian(tensors: Mapping[str, Numbers], prefix: str, size: int) -> Gaussian:
    """What `pack_gaussian` made, of so many dimensions.

    Raises:
        KeyError: A part is missing.
        ValueError: A part has other shapes or values than it should.
    """
    gaussian = Gaussian(**{part: tensors[f"{prefix}.{part}"] for part in PARTS})
    parts, kept = [getattr(gaussian, part) for part in PARTS], gaussian.variances.size
    fitting = [part.shape for part in parts] == [(size,), (kept, size), (kept,), ()]
    positive = bool((gaussian.variances > 0).all() and gaussian.rest > 0)
    if not (fitting and positive and all(np.isfinite(part).all() for part in parts)):
        raise ValueError(f"`{prefix}` has other shapes or values than it should")
    return gaussian
