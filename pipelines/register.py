"""DVC stage `register`: the networks of the hold-out stages and the fold ensembles become model versions.

Each carries the metrics of its stages and the out-of-distribution reference of its training images.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from osteo_models.core.errors import StaleDataError
from osteo_models.core.terms import job_name, metric_prefix
from osteo_models.evaluation.evaluate import collect_metrics
from osteo_models.registry.gate import assess
from osteo_models.registry.records import collect_files, list_splits
from osteo_models.registry.registration import register_version
from osteo_models.registry.rules.comparison_rules import SHORTCUTS
from osteo_models.registry.rules.metric_rules import GROUPS
from osteo_models.registry.run_context import RunContext
from osteo_models.serving.ensemble import find_folds, measure_holdout, score_holdout, write_ensemble
from osteo_models.serving.model_record import RECORD, WEIGHTS, ModelRecord, read_record
from osteo_models.serving.network import OOD, LoadedNetwork, read_network, set_threads
from osteo_models.serving.ood_fit import add_features, fit_pixels
from osteo_models.serving.out_of_distribution import OutOfDistribution, save_ood
from osteo_models.training.frozen_features import read_features
from osteo_models.training.job_data import Tables, load_tables
from osteo_models.training.jobs import Job
from osteo_models.training.outputs import read_job
from osteo_models.training.result_store import fold_folder
from pipelines.entry import main, say

SIDE_BY_SIDE: Final[Any] = ThreadPoolTaskRunner(max_workers=os.cpu_count())


@dataclass(frozen=True)
class TrainingImages:
    """Tables of the images, and the out-of-distribution reference of those outside the hold-out."""

    tables: Tables
    pixels: OutOfDistribution


@task(cache_policy=NO_CACHE)
def load_images(context: RunContext) -> TrainingImages:
    """Load the tables, and fit the out-of-distribution reference of the images outside the hold-out."""
    tables = load_tables(context.settings.artifacts)
    rows = tables.splits[tables.splits["holdout"] == 0]
    images = np.asarray(tables.images[rows.index.to_numpy()])
    return TrainingImages(tables, fit_pixels(images, rows["modality"].tolist(), rows["patient_id"].tolist()))


@task(task_run_name="register {folder.name}", cache_policy=NO_CACHE)
def register_model(folder: Path, images: TrainingImages, context: RunContext) -> dict:
    """Register one network and judge it by the gate; returns its entry in register.json."""
    artifacts = context.settings.artifacts
    evidence = [*sorted(artifacts.glob(f"predictions/*/{folder.name}-*.parquet")), *_list_audits(artifacts)]
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(shutil.copytree(folder, Path(scratch) / folder.name))
        network = read_network(staged)
        return _register(staged, network, _collect_metrics(network.record, context), evidence, images, context)


@task(task_run_name="register {folder.name} ensemble", cache_policy=NO_CACHE)
def register_ensemble(folder: Path, images: TrainingImages, context: RunContext) -> dict | None:
    """Register the networks of a job's folds as one; returns its entry in register.json, None where there is none."""
    record, settings, params = read_record(folder / RECORD), context.settings, context.params
    job = find_folds(settings.artifacts, params, record.architecture, record.images)
    if job is None or record.takes_pairs:
        say(f"  no ensemble of {folder.name}: it has no folds with patients apart, or scores no image by itself")
        return None
    weights = [fold_folder(settings.jobs, job["key"], fold) / WEIGHTS for fold in range(params.splits.folds)]
    name = job_name(job["architecture"], job["images"], job["protocol"])
    single = read_job(record.content)  # its stage is that of the hold-out
    own = settings.artifacts / "ensembles" / folder.name / single.stage / f"{name}.parquet"
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / folder.name
        folded = replace(single, stage=job["stage"], validation="folds", folds=len(weights))
        folded = replace(folded, inputs=images.tables.digest_inputs(folded))
        write_ensemble(staged, {**record.content, "job": asdict(folded)}, weights, key=job["key"])
        network = read_network(staged)
        predictions = score_holdout(network, images.tables, single.stage)
        own.parent.mkdir(parents=True, exist_ok=True)
        predictions.to_parquet(own, index=False)
        # Out of fold, each image is scored by the member that did not see its patient: the members' own evidence.
        prefix = f"{metric_prefix(job['stage'], job['protocol'])}."
        metrics = {key: value for key, value in _collect_metrics(record, context).items() if key.startswith(prefix)}
        metrics |= measure_holdout(predictions, params.evaluate)
        evidence = [settings.artifacts / "predictions" / job["stage"] / f"{name}.parquet", own]
        evidence += [_keep_stage(path, job["stage"], Path(scratch)) for path in _list_audits(settings.artifacts)]
        return _register(staged, network, metrics, evidence, images, context)


def _register(
    staged: Path,
    network: LoadedNetwork,
    metrics: dict[str, float],
    evidence: Sequence[Path],
    images: TrainingImages,
    context: RunContext,
) -> dict:
    params, settings, tracking, record = context.params, context.settings, context.tracking, network.record
    job = tracking.find_job(record.key)
    if job is None:
        raise StaleDataError(
            f"no MLflow run for job {record.key}",
            where=staged.name,
            remedy="the tracking store is another one than the experiments used; run `dvc repro -f experiments`",
        )
    check_inputs(read_job(record.content), images.tables)
    splits = list_splits(settings.artifacts)
    save_ood(staged / OOD, _fit_ood(network, images, context.settings.features))
    version = register_version(
        tracking,
        model_folder=staged,
        metrics=metrics,
        tags=context.tags,
        files=collect_files(settings, params, tracking, record),
        evidence=[*evidence, *splits],
        run_id=job.run_id,
    )
    verdict = assess(tracking, version, params.gate, settings=settings)
    say(f"  {version.title}: the gate says {verdict.verdict}")
    return {
        "name": version.name,
        "version": version.version,
        "alias": ", ".join(version.aliases),
        "verdict": verdict.verdict,
        "rules": [asdict(result) for result in verdict.results],
        "metrics": metrics,
    }


def _fit_ood(network: LoadedNetwork, images: TrainingImages, folder: Path) -> OutOfDistribution:
    """The out-of-distribution reference; features of a frozen backbone that are stored are not computed again."""
    splits, name = images.tables.splits, network.record.stored_features
    stored = read_features(folder, name) if name else None
    rows = np.flatnonzero(splits["holdout"] == 0)
    modalities, patients = (splits[column].to_numpy(str)[rows] for column in ("modality", "patient_id"))
    given = stored.values[rows] if stored else np.asarray(images.tables.images[rows])
    return add_features(images.pixels, network, given, modalities, patients)


def _collect_metrics(record: ModelRecord, context: RunContext) -> dict[str, float]:
    """The metrics of all stages that a network took part in."""
    stages = context.params.stage_table.names
    return collect_metrics(context.settings.artifacts, stages, record.architecture, record.images)


def _list_audits(artifacts: Path) -> list[Path]:
    """The tables of the audits that the gate judges a version by, and that are therefore kept with it."""
    return [artifacts / name for name in (SHORTCUTS, GROUPS) if (artifacts / name).is_file()]


def check_inputs(job: Job, tables: Tables) -> None:
    """Check that a network was trained on the images and folds that are here, which are kept with its version.

    Raises:
        StaleDataError: It was not.
    """
    here = tables.digest_inputs(job)
    if other := [name for name, digest in job.inputs.items() if here[name] != digest]:
        found = f"it was trained on other {' and '.join(other)} than those in artifacts/"
        raise StaleDataError(found, where=f"{job.stage} {job.name}", remedy="run `dvc repro experiments`")


def _keep_stage(path: Path, stage: str, scratch: Path) -> Path:
    """Keep the groups' rows of one stage; those of the hold-out are of the single network. Other tables stay whole."""
    if path.name != Path(GROUPS).name:
        return path
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    target = scratch / GROUPS
    target.parent.mkdir(parents=True)
    table[table["stage"] == stage].to_csv(target, index=False)
    return target


@flow(name="register", task_runner=SIDE_BY_SIDE)
def register() -> None:
    """Register every network of a hold-out stage, and the fold ensembles that params.yaml lists."""
    context = RunContext()
    settings, images = context.settings, load_images(context)
    _ = context.tracking, context.tags  # loaded once, before anything is registered
    folders = sorted(path.parent for path in settings.artifacts.glob("models/*/model.json"))
    set_threads(1)  # versions are registered side by side
    registered = [register_model.submit(folder, images, context) for folder in folders]
    (settings.artifacts / "ensembles").mkdir(exist_ok=True)  # an output of this DVC stage, also when nothing is in it
    together = [folder for folder in folders if folder.name.rpartition("-")[0] in context.params.ensembles]
    registered += [register_ensemble.submit(folder, images, context) for folder in together]
    entries = [entry for future in registered if (entry := future.result())]
    text = json.dumps(entries, indent=1) + "\n"
    (settings.artifacts / "register.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(register)
