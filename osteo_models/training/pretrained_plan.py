"""What pretrained networks start from, settled before anything trains: weights, and what features hang on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.models import complete_spec
from osteo_models.models.pretrained import Backbone, Transfer, Weights, describe_backbone, find_start, read_start
from osteo_models.models.pretrained_weights import WeightsFile, find_weights
from osteo_models.training.identity import OF_FEATURES, list_versions

if TYPE_CHECKING:
    from osteo_models.core.params import Params

FEATURES_KEY_LENGTH: Final = 32


@dataclass(frozen=True)
class Start:
    """What a pretrained network starts from.

    Attributes:
        backbone: timm's name with the tag of its weights.
        sha256: Of the file of weights; empty where they are random.
        seed: Of random weights of a frozen backbone.
        features: Name of the features that a frozen backbone makes of the images; empty where all is trained.
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


def find_starts(params: Params, weights_dir: Path | None) -> dict[str, tuple[Backbone, WeightsFile | None]]:
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
                found[name] = find_start(spec, weights_dir)
            except WeightsError as error:
                missing.append(error)
    if missing:
        where, allowed = (", ".join(getattr(error, part) for error in missing) for part in ("where", "allowed"))
        raise WeightsError(missing[0].found, where=where, allowed=allowed, remedy=missing[0].remedy)
    return found


def plan_starts(params: Params, weights_dir: Path | None, images: str, **arithmetic: Any) -> dict[str, Start]:
    """What each pretrained network of the profile in force starts from, by architecture.

    Args:
        params: params.yaml.
        weights_dir: OSTEO_WEIGHTS_DIR.
        images: Hash of all images, of which a frozen backbone makes features.
        arithmetic: Precision, device and threads; features hang on them, to the last bit.

    Raises:
        InputError: A spec is wrong.
        WeightsError: Weights cannot be had.
    """
    starts: dict[str, Start] = {}
    for name, (about, file) in find_starts(params, weights_dir).items():
        spec = complete_spec(name, params.architectures[name])
        start = Start(
            about.name,
            spec["weights"],
            spec["transfer"],
            file.sha256 if file else "",
            seed=params.experiments.seed if file is None else 0,
        )
        if start.frozen:
            versions = list_versions(name, params.architectures[name])
            code = {part: versions[part] for part in OF_FEATURES}
            decisive = {**asdict(about), **asdict(start), **arithmetic, "images": images, "versions": code}
            start = replace(start, features=_name_features(decisive))
        starts[name] = start
    return starts


def load_start(start: Start, weights_dir: Path | None) -> dict[str, Tensor]:
    """The tensors of a backbone's start.

    Raises:
        StaleDataError: The file is another one than when the work was planned.
        WeightsError: The file is missing, damaged, or another network's.
    """
    about = describe_backbone(start.backbone)
    if start.weights == "random":
        return read_start(about, None, seed=start.seed)
    file = find_weights(about.name, hub_id=about.hub_id, folder=weights_dir)
    if file.sha256 != start.sha256:
        found = f"SHA-256 {file.sha256}, planned with {start.sha256}"
        raise StaleDataError(found, where=str(file.path), remedy="run the same command again")
    return read_start(about, file)


def _name_features(decisive: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:FEATURES_KEY_LENGTH]
