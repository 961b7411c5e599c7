"""A fold ensemble: the networks of a job's folds as one, so that their disagreement says how sure a score is.

It is written as any model is, `model.safetensors` and `model.json`: the tensors of network k stand under `members.k.`,
and the record says how many there are. So it is registered, checked, promoted and served like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from osteo_models.core.errors import StaleDataError
from osteo_models.core.params import Params
from osteo_models.core.terms import Modality
from osteo_models.models import build
from osteo_models.training.checkpoint import load_weights, save_weights

SUFFIX: Final = "-ensemble"  # of a registered model's name


class Ensemble(nn.Module):
    """Networks of one architecture; its logit is that of their mean probability.

    Shapes:
        Inputs and outputs are those of a member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if hasattr(members[0], "tower"):  # as with any network, having it says that there are towers
            self.tower = self._join_towers

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = [member(*inputs) for member in self.members]
        if isinstance(outputs[0], tuple):
            return tuple(_mean_logit(logits) for logits in zip(*outputs, strict=True))
        return _mean_logit(outputs)

    def _join_towers(self, modality: Modality) -> nn.Module:
        return Ensemble([getattr(member, "tower")(modality) for member in self.members])  # noqa: B009  not of every module


def _mean_logit(logits: Sequence[Tensor]) -> Tensor:
    return torch.sigmoid(torch.stack(list(logits)).float()).mean(dim=0).logit()


def list_members(network: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble; any other network is alone."""
    return list(network.members) if isinstance(network, Ensemble) else [network]


def find_folds(artifacts: Path, params: Params, architecture: str, images: str) -> dict[str, Any] | None:
    """The job whose folds are an ensemble of this architecture and image set: cross-validation, patients apart.

    Returns:
        Its entry in jobs.json; None where there was no such job.
    """
    jobs: list[dict[str, Any]] = json.loads((artifacts / "jobs.json").read_text(encoding="utf-8"))
    wanted = {"architecture": architecture, "images": images, "protocol": "patient"}
    found = {job["stage"]: job for job in jobs if all(job[name] == value for name, value in wanted.items())}
    return next((found[stage] for stage in params.stage_table.select("folds") if stage in found), None)


def write_ensemble(target: Path, record: Mapping[str, Any], weights: Sequence[Path], *, key: str) -> None:
    """Write the model folder of an ensemble.

    Args:
        target: Folder to make.
        record: `model.json` of the ensemble: that of a network with the job whose folds are the members.
        weights: Of the members, one file for each fold.
        key: Of the job whose folds they are.

    Raises:
        StaleDataError: A fold's weights are not there.
        WeightsError: They are damaged, or of another architecture.
    """
    missing = [str(path) for path in weights if not path.is_file()]
    if missing:
        remedy = "train the folds again with `dvc repro -f experiments`"
        raise StaleDataError(
            f"{len(missing)} of {len(weights)} fold networks are not there", where=missing[0], remedy=remedy
        )
    members = [build(record["architecture"], **record["spec"]) for _ in weights]
    for member, path in zip(members, weights, strict=True):
        load_weights(path, member)
    target.mkdir(parents=True, exist_ok=True)
    facts = {"architecture": record["architecture"], "job": key, "members": len(members)}
    save_weights(target / "model.safetensors", Ensemble(members), facts)
    text = json.dumps({**record, "key": key, "members": len(members)}, indent=1) + "\n"
    (target / "model.json").write_text(text, encoding="utf-8")
