"""A version built again from its record, and compared with what was registered, bit by bit."""

from __future__ import annotations

import io
import json
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load

from osteo_models.core.errors import StaleDataError
from osteo_models.core.settings import Settings
from osteo_models.data.revisions import hash_data, read_data_digest
from osteo_models.evaluation import summarize
from osteo_models.registry.package import ARTIFACTS, EVIDENCE, MODEL, ORIGIN, open_package
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from osteo_models.serving.model_record import WEIGHTS, ModelRecord
from osteo_models.serving.model_record import read_record as read_model
from osteo_models.training.backbone_cache import BackboneCache
from osteo_models.training.cross_validation import run_job
from osteo_models.training.identity import list_versions
from osteo_models.training.job_data import Tables, as_arrays, load_tables, make_predictions, select_rows
from osteo_models.training.jobs import Job
from osteo_models.training.outputs import predictions_file, read_job, write_model
from osteo_models.training.ray_cluster import open_cluster
from osteo_models.training.result_store import FoldResult, ResultStore, open_result_store

OnEpoch = Callable[[int, int], None]  # epochs done, epochs in all
METRICS: Final = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier")
DECIDING: Final = ("torch", "numpy")  # packages whose release may change the last bits


@dataclass(frozen=True)
class Record:
    """What a version keeps of its making.

    Attributes:
        model: The content of `model.json`.
        predictions: Predictions of its own test images, as they were registered.
    """

    model: ModelRecord
    job: Job
    origin: dict[str, Any]
    weights: bytes
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Reproduction:
    """What came of building a version again.

    Attributes:
        differences: In what the inputs differ from the record; empty where they are equal.
        notes: In what data set and environment differ; the environment may change the last bits.
        tensors: Of the network; `tensors_differing` of them are not equal to the bit.
        weights_difference: Largest absolute difference of two weights.
        tested_on: Which images the scores are of: the hold-out, or for an ensemble the folds.
        scores_difference: Largest absolute difference of two scores.
        metrics: Of these scores, as registered and as reproduced.
    """

    name: str
    version: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    tensors: int
    tensors_differing: int
    weights_difference: float
    tested_on: str
    scores_difference: float
    metrics: dict[str, tuple[float, float]]

    @property
    def equal(self) -> bool:
        """Whether weights and scores are equal to the bit."""
        return self.tensors_differing == 0 and self.scores_difference == 0

    def as_lines(self) -> list[str]:
        """For people."""
        lines = [f"differs from the record: {text}" for text in self.differences]
        lines += [f"note: {text}" for text in self.notes]
        if self.equal:
            lines.append(f"weights: all {self.tensors} tensors equal to the bit; scores on {self.tested_on}: the same")
        else:
            weights, scores = f"{self.weights_difference:.3g}", f"{self.scores_difference:.3g}"
            lines.append(f"weights: {self.tensors_differing} of {self.tensors} tensors differ, by at most {weights}")
            lines.append(f"scores on {self.tested_on}: they differ by at most {scores}")
        for name, (before, after) in self.metrics.items():
            differs = "" if before == after else " (differs)"
            lines.append(f"{name} on {self.tested_on}: {before:.4f} registered, {after:.4f} now{differs}")
        said = "is reproduced to the bit" if self.equal else "is not reproduced to the bit"
        return [*lines, f"{self.name} version {self.version} {said}"]


def read_record(tracking: Tracking, version: VersionInfo) -> Record:
    """Read what the version keeps of its making.

    Raises:
        StaleDataError: It keeps no such record, or one of its files was changed.
    """
    with open_package(tracking, version) as package:
        read, model = package.read, read_model(package.folder / MODEL)
        job = read_job(model.content)
        predictions = read(f"{EVIDENCE}/{job.stage}/{predictions_file(job).name}")
        return Record(
            model,
            job,
            json.loads(read(ORIGIN)),
            read(f"{ARTIFACTS}/{WEIGHTS}"),
            pd.read_parquet(io.BytesIO(predictions)),
        )


def identify_here(job: Job, tables: Tables) -> Job:
    """A recorded job with the inputs and the versions of the code that are here: the same job where they are equal."""
    return replace(job, inputs=tables.digest_inputs(job), versions=list_versions(job.architecture, job.spec))


def find_differences(recorded: Job, here: Job) -> list[str]:
    """In what the images and folds of a job, and the versions of the code that computes it, differ from the record."""
    pairs = {name: (digest, here.inputs[name]) for name, digest in recorded.inputs.items()}
    names = sorted({*recorded.versions, *here.versions})
    versions = {name: (recorded.versions.get(name, "none"), here.versions.get(name, "none")) for name in names}
    return _differing(pairs | {f"version of the code `{name}`": pair for name, pair in versions.items()})


def find_notes(record: Record, settings: Settings) -> list[str]:
    """In what data set and environment differ from the record; every byte of the data is read.

    What the version was trained on may be the same in another revision of the data.
    """
    data, environment = record.origin["data"], record.origin["environment"]
    folder = settings.root / data["path"]
    return _differing(
        {
            f"{data['path']}.dvc": (data["md5"], read_data_digest(settings.root, data["path"]) or "missing"),
            f"the files in {data['path']}": (data["md5"], hash_data(folder) if folder.is_dir() else "missing"),
            "Python": (environment["python"], platform.python_version()),
            **{name: (environment["packages"].get(name, "none"), package_version(name)) for name in DECIDING},
        }
    )


def _differing(pairs: Mapping[str, tuple[object, object]]) -> list[str]:
    return [f"{name}: {was} recorded, {now} here" for name, (was, now) in pairs.items() if was != now]


def reproduce_version(
    tracking: Tracking,
    settings: Settings,
    version: VersionInfo,
    *,
    anyway: bool = False,
    gpus: float = 0.0,
    on_epoch: OnEpoch = lambda *_: None,
) -> Reproduction:
    """Train a version again as its record says, in a folder of its own, and compare.

    Args:
        anyway: Whether to go on where images, folds or code differ from the record.
        gpus: Of the trial, where it was trained on a GPU.
        on_epoch: Told of each epoch.

    Raises:
        StaleDataError: Images, folds or code differ from the record; nothing was trained.
        OsteoError: The training failed.
    """
    record, tables = read_record(tracking, version), load_tables(settings.artifacts)
    job = identify_here(record.job, tables)
    differences = find_differences(record.job, job)
    if differences and not anyway:
        raise StaleDataError(
            f"not what it was made from: {'; '.join(differences)}",
            where=version.title,
            remedy="check out the recorded commit and data (`osteo lineage` names them), or give --anyway",
        )
    near = settings.state if settings.state in settings.jobs.parents else settings.jobs  # which workers reach
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reproduce-", dir=near) as place:
        results = _train(job, tables, settings, Path(place), gpus if job.device == "cuda" else 0.0, on_epoch)
        scores = [(item.fold, select_rows(job, item.fold, tables).test, item.scores) for item in results]
        again, weights = (
            make_predictions(job, scores, tables),
            _collect_weights(job, results, record, settings, Path(place)),
        )
    return _compare(version, record, weights, again, differences, find_notes(record, settings))


def _train(
    job: Job, tables: Tables, settings: Settings, place: Path, gpus: float, on_epoch: OnEpoch
) -> Sequence[FoldResult]:
    rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
    resources = {"cpus": float(job.threads), "gpus": gpus, "precision": job.recipe.precision}
    done: dict[int, int] = {}

    def count(job: Job, fold: int, epochs: int) -> None:
        done[fold] = epochs
        on_epoch(sum(done.values()), job.folds * job.recipe.epochs)

    arrays = as_arrays(tables)
    with open_cluster(settings.ray_address, arrays, store=_open_store(settings, place), **resources) as cluster:
        backbones = BackboneCache(cluster, arrays, place / "features", settings.weights_dir, lambda *_: None)
        try:
            return run_job(job, rows, cluster, folder=place / "jobs", on_epoch=count, inputs=backbones.prepare(job))
        finally:
            if cluster.store:
                cluster.store.clear()


def _open_store(settings: Settings, place: Path) -> ResultStore | None:
    """A place of its own, where nothing is finished yet."""
    store = open_result_store(settings.jobs_store)
    return store / place.name if store else None


def _collect_weights(
    job: Job, results: Sequence[FoldResult], record: Record, settings: Settings, place: Path
) -> dict[str, torch.Tensor]:
    """The tensors of the network as it would be registered; of an ensemble those of its members, as it names them."""
    found: dict[str, torch.Tensor] = {}
    for item in results:
        folder = place / f"member-{item.fold}"
        known = {
            "prepare": record.model.prepare,
            "threshold": record.model.threshold,
            "weights_dir": settings.weights_dir,
        }
        write_model(folder, job, item, **known)
        tensors = load((folder / "models" / f"{job.architecture}-{job.images}" / WEIGHTS).read_bytes())
        head = f"members.{item.fold}." if job.folds > 1 else ""
        found |= {f"{head}{name}": tensor for name, tensor in tensors.items()}
    return found


def _compare(
    version: VersionInfo,
    record: Record,
    after: dict[str, torch.Tensor],
    again: pd.DataFrame,
    differences: list[str],
    notes: list[str],
) -> Reproduction:
    before = load(record.weights)
    if {name: each.shape for name, each in before.items()} != {name: each.shape for name, each in after.items()}:
        raise StaleDataError("another network was built", where=version.uri, remedy="check out the recorded commit")
    differing = [name for name in before if not torch.equal(_bits(before[name]), _bits(after[name]))]
    known = record.predictions.merge(again, on="image_id", suffixes=("", "_again"))
    known = known.assign(difference=(known["score"] - known["score_again"]).abs())
    return Reproduction(
        name=version.name,
        version=version.version,
        differences=tuple(differences),
        notes=tuple(notes),
        tensors=len(before),
        tensors_differing=len(differing),
        weights_difference=max((_largest(before[name], after[name]) for name in differing), default=0.0),
        tested_on="the hold-out" if record.job.validation == "holdout" else "the folds",
        scores_difference=float(known["difference"].max()),
        metrics=_measure(record, again),
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)  # equal bytes, so that NaN equals itself and -0 is not 0


def _largest(before: torch.Tensor, after: torch.Tensor) -> float:
    return float(np.abs(before.double().numpy() - after.double().numpy()).max())


def _measure(record: Record, again: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The metrics, from the registered scores and from the new ones."""
    sides = [
        summarize(table["target"], table["score"], threshold=record.model.threshold, patient_id=table["patient_id"])
        for table in (record.predictions, again)
    ]
    before, after = (side.flatten() for side in sides)
    return {name: (before[name], after[name]) for name in METRICS if name in before and name in after}
