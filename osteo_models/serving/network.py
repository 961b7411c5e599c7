"""A saved network: `model.safetensors` and, beside it, `model.json`, which says what the weights belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import nn

from osteo_models.core.errors import WeightsError
from osteo_models.core.params import Prepare
from osteo_models.core.terms import (
    IMAGE_COLUMNS,
    IMAGE_ROWS,
    IMAGE_SETS,
    ImageSet,
    Modality,
    modalities_of,
    model_name,
)
from osteo_models.models import build_unfilled
from osteo_models.serving.ensemble import SUFFIX, Ensemble, list_members
from osteo_models.serving.feature_space import FeatureSpace, as_rows, load_features, watch_features
from osteo_models.serving.likeness import Likeness, Numbers
from osteo_models.serving.likeness_file import load_likeness
from osteo_models.training.checkpoint import check_weights, load_weights
from osteo_models.training.inference import find_tower, score_images
from osteo_models.training.recipe import Arithmetic

WEIGHTS: Final = "model.safetensors"
RECORD: Final = "model.json"
LIKENESS: Final = "likeness.safetensors"
FEATURES: Final = "features.safetensors"
MOST_MEMBERS: Final = 100
NEEDED: Final = ("architecture", "spec", "images", "key", "prepare", "threshold", "recipe")


@dataclass(frozen=True)
class ModelRecord:
    """`model.json`.

    Attributes:
        key: Of the job that trained the weights.
        prepare: How images were prepared.
        threshold: From this score on the decision is osteoporosis.
        precision: Arithmetic that it was evaluated with.
        members: Networks of a fold ensemble; 1 for a network alone.
    """

    architecture: str
    spec: Mapping[str, Any]
    images: ImageSet
    key: str
    prepare: Prepare
    threshold: float
    precision: Arithmetic
    members: int = 1

    @property
    def takes_pairs(self) -> bool:
        """Whether images of all modalities are scored together, and none by itself."""
        return self.spec.get("fusion") == "feature"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that it scores."""
        return tuple(self.spec.get("modalities") or modalities_of(self.images))

    @property
    def name(self) -> str:
        """Of the registered model."""
        return model_name(self.architecture, self.images) + (SUFFIX if self.members > 1 else "")


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to score.

    Attributes:
        likeness: What its training images look like, where that was kept.
        features: Where they lie in its own features, where that was kept.
    """

    network: nn.Module
    record: ModelRecord
    device: str
    likeness: Likeness | None = None
    features: FeatureSpace | None = None

    def score(self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]) -> npt.NDArray[np.float64]:
        """Score prepared images: an ensemble gives the mean of its members.

        Shapes:
            images (m, 80, 60), modalities m; returns (m,).

        Raises:
            InputError: As in `score_members`.
        """
        return self.score_members(images, modalities).mean(axis=0)

    def score_members(
        self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]
    ) -> npt.NDArray[np.float64]:
        """Score prepared images, each by the tower of its modality where the network has towers.

        Shapes:
            images (m, 80, 60), modalities m; returns (k, m), a row for each of the k members.

        Raises:
            InputError: The network scores images of all modalities together, and none by itself.
        """
        return self.examine(images, modalities)[0]

    def examine(
        self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]
    ) -> tuple[npt.NDArray[np.float64], list[Numbers]]:
        """Score prepared images, and give the features that each member decided by.

        Shapes:
            images (m, 80, 60), modalities m; returns (k, m), and for each of the k members (m, d).

        Raises:
            InputError: As in `score_members`.
        """
        seen = [self._examine_member(member, images, modalities) for member in list_members(self.network)]
        return np.stack([scores for scores, _ in seen]), [features for _, features in seen]

    def _examine_member(
        self, network: nn.Module, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]
    ) -> tuple[npt.NDArray[np.float64], Numbers]:
        if not len(images):
            return np.zeros(0), np.zeros((0, 0))
        if self.record.images != "multimodal":
            return self._examine(network, images, None)
        parts: dict[Modality, npt.NDArray[np.intp]] = {
            name: np.flatnonzero([item == name for item in modalities]) for name in self.record.modalities
        }
        taken: list[Modality] = [name for name in parts if parts[name].size]
        seen = [self._examine(network, images[parts[name]], name) for name in taken]
        order = np.argsort(np.concatenate([parts[name] for name in taken]))
        scores, features = (np.concatenate([each[place] for each in seen])[order] for place in (0, 1))
        return scores, features

    def _examine(
        self, network: nn.Module, images: npt.NDArray[np.uint8], modality: Modality | None
    ) -> tuple[npt.NDArray[np.float64], Numbers]:
        # Trained with a GPU's float16 and served without one: float32 is the nearest that there is.
        emulated = self.record.precision == "float16" and self.device == "cpu"
        precision = "float32" if emulated else self.record.precision
        with watch_features(find_tower(network, modality)) as seen:
            scores = score_images(network, images, modality=modality, precision=precision, device=self.device)
        return scores.astype(np.float64), as_rows(seen)


def read_record(path: Path) -> ModelRecord:
    """Read and check a `model.json`.

    Raises:
        WeightsError: It is missing or incomplete.
    """
    remedy = "make it again with `dvc repro experiments`"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in content]
        if missing:
            raise WeightsError(f"without {', '.join(missing)}", where=str(path), remedy=remedy)
        if content["images"] not in IMAGE_SETS:
            raise WeightsError(f"images {content['images']!r}", where=str(path), allowed=", ".join(IMAGE_SETS))
        threshold, precision = float(content["threshold"]), content["recipe"].get("precision", "float32")
        if not 0 <= threshold <= 1:
            raise WeightsError(f"threshold {threshold}", where=str(path), allowed="0 to 1", remedy=remedy)
        return ModelRecord(
            architecture=content["architecture"],
            spec=content["spec"],
            images=content["images"],
            key=content["key"],
            prepare=Prepare.model_validate(content["prepare"]),
            threshold=threshold,
            precision=precision if precision in get_args(Arithmetic) else "float32",
            members=_read_count(content.get("members", 1)),
        )
    except FileNotFoundError:
        raise WeightsError("file not found", where=str(path), remedy=remedy) from None
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
        raise WeightsError(f"cannot be read ({error})", where=str(path), remedy=remedy) from None


def parse_json(text: str) -> Any:
    """Parse JSON in which every number must be finite.

    Raises:
        ValueError: It is no JSON, or holds NaN, an infinity, or a number that is too large for a float.
    """
    return json.loads(text, parse_float=_read_finite, parse_constant=_read_finite)


def _read_finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text} is not finite")
    return value


def _read_count(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= MOST_MEMBERS:
        raise ValueError(f"`members` is {value!r}, allowed are 1 to {MOST_MEMBERS}")
    return value


def read_network(
    weights: Path, record: Path, *, likeness: Path | None = None, features: Path | None = None, device: str = "cpu"
) -> LoadedNetwork:
    """Build the network that `record` describes and give it its weights.

    Args:
        weights: `model.safetensors`.
        record: `model.json`.
        likeness: The reference of the training images, where one was kept.
        features: The reference of their features, where one was kept.
        device: Where to compute.

    Raises:
        WeightsError: The record, the weights or a reference are missing or damaged.
    """
    known = read_record(record)
    members = [build_unfilled(known.architecture, known.spec) for _ in range(known.members)]
    network = Ensemble(members) if known.members > 1 else members[0]
    check_weights(weights, sum(each.numel() * each.element_size() for each in network.state_dict().values()))
    load_weights(weights, network)
    if not all(torch.isfinite(each).all() for each in network.state_dict().values()):
        raise WeightsError("weights that are not finite", where=str(weights), remedy="train the network again")
    reference = load_likeness(likeness) if likeness else None
    loaded = LoadedNetwork(network.to(device).eval(), known, device, reference)
    return replace(loaded, features=load_features(features, _count_features(loaded))) if features else loaded


def read_package(folder: Path, *, device: str = "cpu") -> LoadedNetwork:
    """The network of a package whose files were checked (`checksums.find_damage`): what it lacks it never had.

    Raises:
        WeightsError: It holds no network.
    """
    place = folder / "artifacts"
    likeness, features = (path if path.is_file() else None for path in (place / LIKENESS, place / FEATURES))
    return read_network(place / WEIGHTS, place / RECORD, likeness=likeness, features=features, device=device)


def _count_features(loaded: LoadedNetwork) -> dict[Modality, list[int]]:
    """How many features each member has: of a black image, as whatever it is scored by says best what there is."""
    black = np.zeros((1, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    taken = loaded.record.modalities
    return {name: [rows.shape[1] for rows in loaded.examine(black, [name])[1]] for name in taken}
