"""Initial weights of pretrained networks and the key of their features, resolved before training starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.models import complete_spec
from osteo_models.models.pretrained import (
    Backbone,
    Transfer,
    Weights,
    describe_backbone,
    find_initial_weights,
    read_initial_weights,
)
from osteo_models.models.pretrained_weights import WeightsFile, find_weights
from osteo_models.training.identity import FEATURE_VERSIONS, list_versions

if TYPE_CHECKING:
    from osteo_models.core.params import Params

FEATURES_KEY_LENGTH: Final = 32


@dataclass(frozen=True)
class PretrainedWeights:
    """The initial weights of a pretrained network.

    Attributes:
        backbone: timm's name with the tag of its weights.
        sha256: Of the file of weights; empty for random ones.
        seed: Of random weights of a frozen backbone.
        features: Key of the features that a frozen backbone computes; empty if all is trained.
    """

    backbone: str
    weights: Weights
    transfer: Transfer
    sha256: str = ""
    seed: int = 0
    features: str = ""

    @property
    def frozen(self) -> bool:
        """Whether the head alone is trained, on stored features."""
        return self.transfer == "frozen"


def find_pretrained(params: Params, weights_dir: Path | None) -> dict[str, tuple[Backbone, WeightsFile | None]]:
    """The backbone and the file of weights of every pretrained network that the profile in force runs.

    Raises:
        InputError: A spec is wrong.
        WeightsError: Weights cannot be had; the message names all such networks.
    """
    found: dict[str, tuple[Backbone, WeightsFile | None]] = {}
    missing: list[WeightsError] = []
    for name in dict.fromkeys(name for stage in params.stages for name in params.list_run(stage)):
        spec = complete_spec(name, params.architectures[name])
        if "transfer" in spec:
            try:
                found[name] = find_initial_weights(spec, weights_dir)
            except WeightsError as error:
                missing.append(error)
    if missing:
        where, allowed = (", ".join(getattr(error, part) for error in missing) for part in ("where", "allowed"))
        raise WeightsError(missing[0].found, where=where, allowed=allowed, remedy=missing[0].remedy)
    return found


def plan_pretrained(
    params: Params, weights_dir: Path | None, images: str, **arithmetic: Any
) -> dict[str, PretrainedWeights]:
    """The initial weights of each pretrained network of the profile in force, by architecture.

    Args:
        params: params.yaml.
        weights_dir: OSTEO_WEIGHTS_DIR.
        images: Hash of all images, from which a frozen backbone computes features.
        arithmetic: Precision, device and threads; the last bits of features depend on them.

    Raises:
        InputError: A spec is wrong.
        WeightsError: Weights cannot be had.
    """
    planned: dict[str, PretrainedWeights] = {}
    for name, (backbone, file) in find_pretrained(params, weights_dir).items():
        spec = complete_spec(name, params.architectures[name])
        sha256, seed = (file.sha256, 0) if file else ("", params.experiments.seed)
        weights = PretrainedWeights(backbone.name, spec["weights"], spec["transfer"], sha256, seed)
        if weights.frozen:
            versions = list_versions(name, params.architectures[name])
            code = {part: versions[part] for part in FEATURE_VERSIONS}
            decisive = {**asdict(backbone), **asdict(weights), **arithmetic, "images": images, "versions": code}
            digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
            weights = replace(weights, features=digest[:FEATURES_KEY_LENGTH])
        planned[name] = weights
    return planned


def load_pretrained(weights: PretrainedWeights, weights_dir: Path | None) -> dict[str, Tensor]:
    """The tensors of a backbone's initial weights.

    Raises:
        StaleDataError: The file differs from the one that was planned with.
        WeightsError: The file is missing, damaged, or of another network.
    """
    backbone = describe_backbone(weights.backbone)
    if weights.weights == "random":
        return read_initial_weights(backbone, None, seed=weights.seed)
    file = find_weights(backbone.name, hub_id=backbone.hub_id, folder=weights_dir)
    if file.sha256 != weights.sha256:
        found = f"SHA-256 {file.sha256}, planned with {weights.sha256}"
        raise StaleDataError(found, where=str(file.path), remedy="run the same command again")
    return read_initial_weights(backbone, file)
