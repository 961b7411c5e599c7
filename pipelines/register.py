"""DVC stage `register`: the networks of the hold-out stages, and the networks of folds together, become model versions.

Each carries the metrics of the stages that it took part in, and what its training images look like.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import StaleDataError
from osteo_models.core.terms import job_name, metric_prefix
from osteo_models.evaluation.evaluate import collect_metrics
from osteo_models.registry.gate import assess
from osteo_models.registry.records import collect_files, list_splits
from osteo_models.registry.rules.comparison_rules import SHORTCUTS
from osteo_models.registry.rules.metric_rules import GROUPS
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.versions import register_version
from osteo_models.serving.ensemble import find_folds, write_ensemble
from osteo_models.serving.feature_fit import write_features
from osteo_models.serving.holdout_scores import measure_holdout, score_holdout
from osteo_models.serving.likeness import Likeness
from osteo_models.serving.likeness_file import save_likeness
from osteo_models.serving.likeness_fit import fit_likeness
from osteo_models.serving.network import LIKENESS, RECORD, WEIGHTS, read_network
from osteo_models.training.job_data import Tables, load_tables
from osteo_models.training.jobs import Job
from osteo_models.training.outputs import read_job
from osteo_models.training.result_store import fold_folder
from pipelines.entry import main, say


@dataclass(frozen=True)
class TrainingImages:
    """Tables of the images, and what the images outside the hold-out look like."""

    tables: Tables
    likeness: Likeness


@task(cache_policy=NO_CACHE)
def load_images(context: RunContext) -> TrainingImages:
    """Load the tables, and describe what the images outside the hold-out look like."""
    tables = load_tables(context.settings.artifacts)
    known = tables.splits[tables.splits["holdout"] == 0]
    images = np.asarray(tables.images[known.index.to_numpy()])
    return TrainingImages(tables, fit_likeness(images, known["modality"].tolist(), known["patient_id"].tolist()))


@task(task_run_name="register {folder.name}", cache_policy=NO_CACHE)
def register_model(folder: Path, images: TrainingImages, context: RunContext) -> dict:
    """Register one network, and say what the gate would decide; returns its entry in register.json."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    metrics = _collect(context, model)
    artifacts = context.settings.artifacts
    evidence = [*sorted(artifacts.glob(f"predictions/*/{folder.name}-*.parquet")), *_find_audits(artifacts)]
    with tempfile.TemporaryDirectory() as place:
        staged = Path(shutil.copytree(folder, Path(place) / folder.name))
        return _register(staged, model["key"], metrics, evidence, images, context)


@task(task_run_name="register {folder.name} ensemble", cache_policy=NO_CACHE)
def register_ensemble(folder: Path, images: TrainingImages, context: RunContext) -> dict | None:
    """Register the networks of a job's folds as one; returns its entry in register.json, None where there is none."""
    model, settings = json.loads((folder / "model.json").read_text(encoding="utf-8")), context.settings
    job = find_folds(settings.artifacts, context.params, model["architecture"], model["images"])
    if job is None or model["spec"].get("fusion") == "feature":
        say(f"  no ensemble of {folder.name}: it has no folds with patients apart, or scores no image by itself")
        return None
    weights = [fold_folder(settings.jobs, job["key"], fold) / WEIGHTS for fold in range(context.params.splits.folds)]
    name = job_name(job["architecture"], job["images"], job["protocol"])
    stage = model["job"]["stage"]  # of the hold-out, where the network alone was tested
    own = settings.artifacts / "ensembles" / folder.name / stage / f"{name}.parquet"
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place) / folder.name
        folded = replace(read_job(model), stage=job["stage"], validation="folds", folds=len(weights))
        folded = replace(folded, inputs=images.tables.digest_inputs(folded))
        write_ensemble(staged, {**model, "job": asdict(folded)}, weights, key=job["key"])
        predictions = score_holdout(read_network(staged / WEIGHTS, staged / RECORD), images.tables, stage)
        own.parent.mkdir(parents=True, exist_ok=True)
        predictions.to_parquet(own, index=False)
        # Out of fold, each image is scored by the member that did not see its patient: the members' own evidence.
        prefix = f"{metric_prefix(job['stage'], job['protocol'])}."
        known = _collect(context, model)
        metrics = {key: value for key, value in known.items() if key.startswith(prefix)}
        metrics |= measure_holdout(predictions, context.params.evaluate)
        evidence = [settings.artifacts / "predictions" / job["stage"] / f"{name}.parquet", own]
        evidence += [_keep_stage(path, job["stage"], Path(place)) for path in _find_audits(settings.artifacts)]
        return _register(staged, job["key"], metrics, evidence, images, context)


def _collect(context: RunContext, model: dict) -> dict[str, float]:
    """The metrics of all stages that a network took part in."""
    stages = context.params.stage_table.names
    return collect_metrics(context.settings.artifacts, stages, model["architecture"], model["images"])


def _register(
    staged: Path,
    key: str,
    metrics: dict[str, float],
    evidence: Sequence[Path],
    images: TrainingImages,
    context: RunContext,
) -> dict:
    settings, tracking = context.settings, context.tracking
    job = tracking.find_job(key)
    if job is None:
        raise StaleDataError(
            f"no MLflow run for job {key}",
            where=staged.name,
            remedy="the tracking store is another one than the experiments used; run `dvc repro -f experiments`",
        )
    model = json.loads((staged / RECORD).read_text(encoding="utf-8"))
    check_inputs(read_job(model), images.tables)
    files, splits = collect_files(settings, context.params, tracking, model), list_splits(settings.artifacts)
    save_likeness(staged / LIKENESS, images.likeness)
    write_features(staged, images.tables, settings.features)
    version = register_version(
        tracking,
        model_folder=staged,
        metrics=metrics,
        tags=context.tags,
        files=files,
        evidence=[*evidence, *splits],
        run_id=job.run_id,
    )
    verdict = assess(tracking, version, context.params.gate, settings=settings)
    say(f"  {version.name} version {version.version}: the gate says {verdict.verdict}")
    return {
        "name": version.name,
        "version": version.version,
        "alias": ", ".join(version.aliases),
        "verdict": verdict.verdict,
        "rules": [asdict(result) for result in verdict.results],
        "metrics": metrics,
    }


def check_inputs(job: Job, tables: Tables) -> None:
    """See that a network was trained on the images and folds that are here, which are kept with its version."""
    here = tables.digest_inputs(job)
    if other := [name for name, digest in job.inputs.items() if here[name] != digest]:
        found = f"it was trained on other {' and '.join(other)} than those in artifacts/"
        raise StaleDataError(found, where=f"{job.stage} {job.name}", remedy="run `dvc repro experiments`")


def _find_audits(artifacts: Path) -> list[Path]:
    """The tables of the audits that the gate judges a version by, and that are therefore kept with it."""
    return [path for path in (artifacts / SHORTCUTS, artifacts / GROUPS) if path.is_file()]


def _keep_stage(path: Path, stage: str, place: Path) -> Path:
    """Keep the groups' rows of one stage; those of the hold-out are of the network alone. Other tables stay whole."""
    if path.name != Path(GROUPS).name:
        return path
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    target = place / GROUPS
    target.parent.mkdir(parents=True)
    table[table["stage"] == stage].to_csv(target, index=False)
    return target


@flow(name="register")
def register() -> None:
    """Register every network of a hold-out stage, and the fold ensembles that params.yaml asks for."""
    context = RunContext()
    settings, images = context.settings, load_images(context)
    _ = context.tracking, context.tags  # loaded once, before anything is registered
    folders = sorted(path.parent for path in settings.artifacts.glob("models/*/model.json"))
    entries = [register_model(folder, images, context) for folder in folders]
    (settings.artifacts / "ensembles").mkdir(exist_ok=True)  # an output of this DVC stage, also when nothing is in it
    together = [folder for folder in folders if folder.name.rpartition("-")[0] in context.params.ensembles]
    entries += [entry for folder in together if (entry := register_ensemble(folder, images, context))]
    text = json.dumps(entries, indent=1) + "\n"
    (settings.artifacts / "register.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(lambda *_: register())
