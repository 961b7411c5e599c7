"""What a finished job leaves for the DVC stages after it: predictions, learning curves, its network, its entry."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from torch.utils.flop_counter import FlopCounterMode

from osteo_models.core.errors import StaleDataError
from osteo_models.core.params import Prepare
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS
from osteo_models.models import build_unfilled, count_parameters
from osteo_models.models.pretrained import PretrainedNetwork
from osteo_models.training.checkpoint import load_weights, save_weights
from osteo_models.training.job_data import Tables, make_predictions, select_rows
from osteo_models.training.jobs import Job
from osteo_models.training.pretrained_plan import load_pretrained
from osteo_models.training.result_store import FoldResult

ENTRY = ("key", "stage", "architecture", "images", "protocol")


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        macs: Multiply-accumulates of convolutions and dense layers for one image, of the network's own input size; for
            one image of each modality with several inputs.
    """

    parameters: int
    trainable_parameters: int
    macs: int


def measure_cost(architecture: str, spec: Mapping[str, Any]) -> Cost:
    """Count during one forward pass of an untrained network; the counts depend on shapes alone.

    Raises:
        InputError: The architecture cannot be built with this spec.
    """
    return _measure(architecture, json.dumps(dict(spec), sort_keys=True))


@functools.lru_cache
def _measure(architecture: str, spec: str) -> Cost:
    settings = json.loads(spec)
    network = build_unfilled(architecture, settings).eval()
    image = torch.zeros(1, 3, IMAGE_ROWS, IMAGE_COLUMNS)
    inputs = len(getattr(network, "modalities", ("one",)))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*[image] * inputs)
    return Cost(*count_parameters(network), counter.get_total_flops() // 2)


def predictions_file(job: Job) -> Path:
    """Where a job's predictions stand, relative to the artifacts."""
    return Path("predictions") / job.stage / f"{job.name}.parquet"


def write_outputs(
    artifacts: Path, job: Job, results: Sequence[FoldResult], tables: Tables, *, feature_seconds: float = 0.0
) -> dict[str, Any]:
    """Write a job's predictions and learning curves.

    Args:
        artifacts: Where they go.
        job: The job.
        results: Of its folds.
        tables: As trained on.
        feature_seconds: That a frozen backbone took for the features of all images, once for all jobs.

    Returns:
        The job's entry in jobs.json: what it was, and what it cost.
    """
    scores = [(item.fold, select_rows(job, item.fold, tables).test, item.scores) for item in results]
    path = artifacts / predictions_file(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    make_predictions(job, scores, tables).to_parquet(path, index=False)
    history = pd.DataFrame([{"fold": item.fold, **epoch} for item in results for epoch in item.history])
    curves = artifacts / "curves" / job.stage / f"{job.name}.csv"
    curves.parent.mkdir(parents=True, exist_ok=True)
    history.to_csv(curves, index=False)
    return {
        **{name: getattr(job, name) for name in ENTRY},
        "epochs": job.recipe.epochs,
        "precision": job.recipe.precision,
        **asdict(measure_cost(job.architecture, job.spec)),
        "seconds_per_epoch": float(history["seconds"].mean()),
        "feature_seconds": feature_seconds,
        **describe_weights(job),
    }


def describe_weights(job: Job) -> dict[str, str]:
    """The initial weights of a job's network, in words."""
    pretrained = job.pretrained
    return {
        "weights": pretrained.weights if pretrained else "none",
        "weights_sha256": pretrained.sha256 if pretrained else "",
        "transfer": pretrained.transfer if pretrained else "",
    }


def write_model(
    artifacts: Path,
    job: Job,
    result: FoldResult,
    *,
    prepare: Prepare,
    threshold: float,
    weights_dir: Path | None = None,
) -> None:
    """Write a network that may be registered: model.safetensors, and model.json with all that scoring needs.

    Raises:
        WeightsError: The weights that a frozen backbone started from are gone.
    """
    folder = artifacts / "models" / f"{job.architecture}-{job.images}"
    folder.mkdir(parents=True, exist_ok=True)
    if job.pretrained and job.pretrained.frozen:
        _write_whole(folder / "model.safetensors", job, result, weights_dir)
    else:
        shutil.copyfile(result.weights, folder / "model.safetensors")
    content = {
        "architecture": job.architecture,
        "spec": dict(job.spec),
        "images": job.images,
        "key": job.key,
        "recipe": asdict(job.recipe),
        "prepare": prepare.model_dump(mode="json"),
        "threshold": threshold,
        "job": asdict(job),
    }
    _write_json(folder / "model.json", content)


def read_job(content: Mapping[str, Any]) -> Job:
    """The job that a model.json holds: of a fold ensemble the one whose folds are its members.

    Raises:
        StaleDataError: It holds none, or that of another release.
    """
    remedy = "train it again with `dvc repro -f experiments`, then register it"
    try:
        job = TypeAdapter(Job).validate_python(content["job"])
    except (KeyError, ValidationError):
        raise StaleDataError("no job of this release", where="model.json", remedy=remedy) from None
    if job.key != content["key"]:
        raise StaleDataError(f"its job has key {job.key}", where="model.json", allowed=content["key"], remedy=remedy)
    return job


def _write_whole(path: Path, job: Job, result: FoldResult, weights_dir: Path | None) -> None:
    """The backbone as it stayed, under the head that was trained on its features."""
    network = build_unfilled(job.architecture, job.spec)
    if not isinstance(network, PretrainedNetwork) or job.pretrained is None:
        raise TypeError(f"{job.architecture} has no backbone")
    network.backbone.load_state_dict(load_pretrained(job.pretrained, weights_dir))
    facts = load_weights(result.weights, network.head)
    save_weights(path, network, facts)


def write_jobs(artifacts: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Write jobs.json in a fixed order."""
    _write_json(artifacts / "jobs.json", sorted(entries, key=lambda entry: [entry[name] for name in ENTRY[1:]]))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
