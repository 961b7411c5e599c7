"""A saved network: `model.safetensors` and, beside it, `model.json`, which says what the weights belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from torch import nn

from osteo_models.errors import WeightsError
from osteo_models.models import build_unfilled
from osteo_models.params import Prepare
from osteo_models.terms import IMAGE_SETS, MODALITIES, ImageSet, Modality
from osteo_models.training.checkpoint import load_weights
from osteo_models.training.recipe import Arithmetic
from osteo_models.training.scoring import score_images

WEIGHTS: Final = "model.safetensors"
RECORD: Final = "model.json"
NEEDED: Final = ("architecture", "spec", "images", "key", "prepare", "threshold", "recipe")


@dataclass(frozen=True)
class ModelRecord:
    """`model.json`.

    Attributes:
        key: Of the job that trained the weights.
        prepare: How images were prepared.
        threshold: From this score on the decision is osteoporosis.
        precision: Arithmetic that it was evaluated with.
    """

    architecture: str
    spec: Mapping[str, Any]
    images: ImageSet
    key: str
    prepare: Prepare
    threshold: float
    precision: Arithmetic


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to score."""

    network: nn.Module
    record: ModelRecord
    device: str

    def score(self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]) -> npt.NDArray[np.float64]:
        """Score prepared images, each by the tower of its modality where the network has towers.

        Shapes:
            images (m, 80, 60), modalities m; returns (m,).

        Raises:
            InputError: The network scores an MRI and a CT image together, and none by itself.
        """
        if self.record.images != "multimodal":
            return self._score(images, None)
        scores = np.empty(len(images), dtype=np.float64)
        for modality in MODALITIES:
            rows = np.flatnonzero([item == modality for item in modalities])
            if rows.size:
                scores[rows] = self._score(images[rows], modality)
        return scores

    def _score(self, images: npt.NDArray[np.uint8], modality: Modality | None) -> npt.NDArray[np.float64]:
        # Trained with a GPU's float16 and served without one: float32 is the nearest that there is.
        emulated = self.record.precision == "float16" and self.device == "cpu"
        precision = "float32" if emulated else self.record.precision
        return score_images(self.network, images, modality=modality, precision=precision, device=self.device).astype(
            np.float64
        )


def read_record(path: Path) -> ModelRecord:
    """Read and check a `model.json`.

    Raises:
        WeightsError: It is missing or incomplete.
    """
    remedy = "make it again with `dvc repro experiments`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in content]
        if missing:
            raise WeightsError(f"without {', '.join(missing)}", where=str(path), remedy=remedy)
        if content["images"] not in IMAGE_SETS:
            raise WeightsError(f"images {content['images']!r}", where=str(path), allowed=", ".join(IMAGE_SETS))
        precision = content["recipe"].get("precision", "float32")
        return ModelRecord(
            architecture=content["architecture"],
            spec=content["spec"],
            images=content["images"],
            key=content["key"],
            prepare=Prepare.model_validate(content["prepare"]),
            threshold=float(content["threshold"]),
            precision=precision if precision in get_args(Arithmetic) else "float32",
        )
    except FileNotFoundError:
        raise WeightsError("file not found", where=str(path), remedy=remedy) from None
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
        raise WeightsError(f"cannot be read ({error})", where=str(path), remedy=remedy) from None


def read_network(weights: Path, record: Path, *, device: str = "cpu") -> LoadedNetwork:
    """Build the network that `record` describes and give it its weights.

    Raises:
        WeightsError: The record or the weights are missing or damaged.
    """
    known = read_record(record)
    network = build_unfilled(known.architecture, known.spec)
    load_weights(weights, network)
    return LoadedNetwork(network.to(device).eval(), known, device)


def hash_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        WeightsError: There is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise WeightsError("file not found", where=str(path), remedy="make it with `dvc repro experiments`") from None
