"""A saved network, ready to score: `model.safetensors`, `model.json` and the out-of-distribution reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from osteo_models.core.errors import ImageError, WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality, decide
from osteo_models.data.prepare import PreparedImage
from osteo_models.models import build_unfilled
from osteo_models.serving.model_record import RECORD, WEIGHTS, ModelRecord, read_record
from osteo_models.serving.network_features import capture_features
from osteo_models.serving.out_of_distribution import Numbers, OutOfDistribution, load_ood
from osteo_models.training.checkpoint import check_weights, load_weights
from osteo_models.training.inference import find_tower, score_images

OOD: Final = "ood.safetensors"


class Ensemble(nn.Module):
    """Networks of one architecture; the logit is that of their mean probability.

    Shapes:
        Inputs and outputs are those of a member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if hasattr(members[0], "tower"):  # as with any network, the attribute shows that there are towers
            self.tower = self._join_towers

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = [member(*inputs) for member in self.members]
        if isinstance(outputs[0], tuple):
            return tuple(_mean_logit(logits) for logits in zip(*outputs, strict=True))
        return _mean_logit(outputs)

    def _join_towers(self, modality: Modality) -> nn.Module:
        return Ensemble([find_tower(member, modality) for member in self.members])


def _mean_logit(logits: Sequence[Tensor]) -> Tensor:
    return torch.sigmoid(torch.stack(list(logits)).float()).mean(dim=0).logit()


def set_threads(count: int) -> None:
    """Set the number of PyTorch's threads in this process; these networks are too small to gain from many."""
    torch.set_num_threads(count)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to score.

    Attributes:
        ood: The out-of-distribution check; None where the model folder has no reference.
    """

    network: nn.Module
    record: ModelRecord
    device: str
    ood: OutOfDistribution | None = None

    @property
    def members(self) -> list[nn.Module]:
        """The networks of an ensemble, or the single network."""
        return list(self.network.members) if isinstance(self.network, Ensemble) else [self.network]

    def score(self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]) -> npt.NDArray[np.float64]:
        """Score prepared images: the mean of the members.

        Shapes:
            images (m, 80, 60), modalities m; returns (m,).

        Raises:
            InputError: The network scores images of all modalities together, and none by itself.
        """
        return self.examine(images, modalities)[0].mean(axis=0)

    def examine(
        self, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]
    ) -> tuple[npt.NDArray[np.float64], Numbers]:
        """Score prepared images, each by the tower of its modality, and give the features that decided.

        Shapes:
            images (m, 80, 60), modalities m; returns (k, m), a row for each of the k members, and (m, d), the features
            of all members side by side.

        Raises:
            InputError: As in `score`.
        """
        examined = [self._examine_member(member, images, modalities) for member in self.members]
        return np.stack([scores for scores, _ in examined]), np.hstack([features for _, features in examined])

    def _examine_member(
        self, network: nn.Module, images: npt.NDArray[np.uint8], modalities: Sequence[Modality | None]
    ) -> tuple[npt.NDArray[np.float64], Numbers]:
        if not len(images):
            return np.zeros(0), np.zeros((0, 0))
        if self.record.images != "multimodal":
            return self._examine_tower(network, images, None)
        rows = {name: np.flatnonzero([modality == name for modality in modalities]) for name in self.record.modalities}
        present: list[Modality] = [name for name in rows if rows[name].size]
        examined = [self._examine_tower(network, images[rows[name]], name) for name in present]
        order = np.argsort(np.concatenate([rows[name] for name in present]))
        scores, features = (np.concatenate([one[part] for one in examined])[order] for part in (0, 1))
        return scores, features

    def _examine_tower(
        self, network: nn.Module, images: npt.NDArray[np.uint8], modality: Modality | None
    ) -> tuple[npt.NDArray[np.float64], Numbers]:
        # Trained with a GPU's float16 and served without one: float32 is the nearest that there is.
        emulated = self.record.precision == "float16" and self.device == "cpu"
        precision = "float32" if emulated else self.record.precision
        with capture_features(find_tower(network, modality)) as captured:
            scores = score_images(network, images, modality=modality, precision=precision, device=self.device)
        return scores.astype(np.float64), torch.cat(captured).cpu().numpy().astype(np.float64)


def examine_images(
    network: LoadedNetwork, images: Sequence[PreparedImage]
) -> tuple[npt.NDArray[np.float64], list[str | None]]:
    """Score images and compare them with the training images.

    Returns:
        The members' scores (k, m), and for each image why it is out of distribution; None where it is not, or where
        the network has no reference.
    """
    pixels = np.zeros((len(images), IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    for position, image in enumerate(images):
        pixels[position] = image.pixels
    members, features = network.examine(pixels, [image.modality for image in images])
    if network.ood is None:
        return members, [None] * len(images)
    rows = zip(images, features, strict=True)
    return members, [network.ood.find_fault(image.pixels, row, image.modality) for image, row in rows]


def judge_members(members: npt.NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """Score, decision, uncertainty and agreement of m images from the scores (k, m) of k networks."""
    score = members.mean(axis=0)
    decision = decide(score, threshold)
    single = np.full(len(score), None, dtype=object)
    several = len(members) > 1
    return {
        "score": score,
        "decision": decision.astype(np.int64),
        "uncertainty": members.std(axis=0, ddof=1) if several else single,
        "agreement": (decide(members, threshold) == decision).mean(axis=0) if several else single,
    }


def refuse_ood(fault: str, where: str) -> ImageError:
    """The error of an image that is out of distribution, where that is not allowed."""
    remedy = "`allow_ood` (--allow-ood) scores it all the same"
    return ImageError(f"out of distribution of the training images: {fault}", where=where, remedy=remedy)


def read_network(folder: Path, *, device: str = "cpu") -> LoadedNetwork:
    """Build the network of a model folder and load its weights, and its out-of-distribution reference if there is one.

    Raises:
        WeightsError: The record, the weights or the reference are missing or damaged.
    """
    record, weights, ood = read_record(folder / RECORD), folder / WEIGHTS, folder / OOD
    members = [build_unfilled(record.architecture, record.spec) for _ in range(record.members)]
    network = Ensemble(members) if record.members > 1 else members[0]
    check_weights(weights, sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()))
    load_weights(weights, network)
    if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise WeightsError("weights that are not finite", where=str(weights), remedy="train the network again")
    loaded = LoadedNetwork(network.to(device).eval(), record, device)
    return replace(loaded, ood=load_ood(ood, _count_features(loaded))) if ood.is_file() else loaded


def _count_features(loaded: LoadedNetwork) -> dict[Modality, int]:
    """Number of features for each modality that the network scores, measured on a black image."""
    black = np.zeros((1, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    names = () if loaded.record.takes_pairs else loaded.record.modalities
    return {name: loaded.examine(black, [name])[1].shape[1] for name in names}
