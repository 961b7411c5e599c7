"""The record `model.json` of a saved network: what its weights belong to and how it scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from osteo_models.core.errors import WeightsError
from osteo_models.core.params import Prepare
from osteo_models.core.terms import IMAGE_SETS, ImageSet, Modality, modalities_of, model_name
from osteo_models.training.recipe import Arithmetic

WEIGHTS: Final = "model.safetensors"
RECORD: Final = "model.json"
ENSEMBLE_SUFFIX: Final = "-ensemble"  # of a registered model's name
MOST_MEMBERS: Final = 100
NEEDED: Final = ("architecture", "spec", "images", "key", "prepare", "threshold", "recipe")
REMEDY: Final = "make it again with `dvc repro experiments`"


@dataclass(frozen=True)
class ModelRecord:
    """The content of a `model.json`.

    Attributes:
        key: Key of the job that trained the weights.
        prepare: Preparation of the images.
        threshold: Scores from here on are decided as osteoporosis.
        precision: Arithmetic of the evaluation.
        members: Number of networks of a fold ensemble; 1 for a single network.
        content: The whole file; `training.outputs.read_job` reads the job in it.
    """

    architecture: str
    spec: Mapping[str, Any]
    images: ImageSet
    key: str
    prepare: Prepare
    threshold: float
    precision: Arithmetic
    members: int = 1
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

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
        """Name of the registered model."""
        return model_name(self.architecture, self.images) + (ENSEMBLE_SUFFIX if self.members > 1 else "")

    @property
    def stored_features(self) -> str:
        """Name of the stored features that a head on a frozen backbone was trained on; empty for other networks."""
        pretrained = self.content.get("job", {}).get("pretrained") or {}
        return pretrained.get("features") or ""


def read_record(path: Path) -> ModelRecord:
    """Read and check a `model.json`.

    Raises:
        WeightsError: It is missing or incomplete.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in content]
        if missing:
            raise WeightsError(f"without {', '.join(missing)}", where=str(path), remedy=REMEDY)
        if content["images"] not in IMAGE_SETS:
            raise WeightsError(f"images {content['images']!r}", where=str(path), allowed=", ".join(IMAGE_SETS))
        threshold, precision = float(content["threshold"]), content["recipe"].get("precision", "float32")
        if not 0 <= threshold <= 1:
            raise WeightsError(f"threshold {threshold}", where=str(path), allowed="0 to 1", remedy=REMEDY)
        members = content.get("members", 1)
        if not isinstance(members, int) or not 1 <= members <= MOST_MEMBERS:
            raise ValueError(f"`members` is {members!r}, allowed are 1 to {MOST_MEMBERS}")
        return ModelRecord(
            architecture=content["architecture"],
            spec=content["spec"],
            images=content["images"],
            key=content["key"],
            prepare=Prepare.model_validate(content["prepare"]),
            threshold=threshold,
            precision=precision if precision in get_args(Arithmetic) else "float32",
            members=members,
            content=content,
        )
    except FileNotFoundError:
        raise WeightsError("file not found", where=str(path), remedy=REMEDY) from None
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
        raise WeightsError(f"cannot be read ({error})", where=str(path), remedy=REMEDY) from None


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
