"""The steps that make a version in MLflow: its run, its logged model, its files, its metrics, and at last itself.

A killed call leaves some of them: the next one finds them, and goes on. What is finished is never opened again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mlflow import pyfunc
from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient

import osteo_models
from osteo_models.models import find_entry
from osteo_models.registry import pyfunc_model
from osteo_models.registry.checksums import hash_files, write_manifest
from osteo_models.registry.lookup import IDENTITY_TAG, MODEL_TAG, WEIGHTS_TAG
from osteo_models.registry.manifest import MANIFEST_TAG
from osteo_models.registry.model_card import link_pages, write_card
from osteo_models.registry.records import CARD, RECORDS, STATEMENT, write_statement
from osteo_models.registry.runs import JOB_TAG, NOTE_TAG, PARENT_TAG
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.network import FEATURES, LIKENESS, RECORD, WEIGHTS, ModelRecord, read_network
from osteo_models.serving.score_rows import GOLDEN, make_golden

# Stated, not inferred: MLflow's inference loads the model in a process of its own, for seconds, and guesses.
REQUIREMENTS: Final = (
    "huggingface-hub",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "pydicom",
    "pyyaml",
    "safetensors",
    "torch",
)
PRETRAINED_REQUIREMENTS: Final = ("timm",)
MODEL_CODE: Final = Path(pyfunc_model.__file__).with_name("model_code.py")
EVIDENCE: Final = "evidence"


def write_package(target: Path, model_folder: Path, record: ModelRecord, *, model_id: str, run_id: str) -> None:
    """Write the folder of a version.

    The library travels with it, so that a served version is scored by the code that it was registered with; and a
    manifest, so that MLflow loads it only as it was written.

    Args:
        target: Folder to make.
        model_folder: Holds `model.safetensors` and `model.json`, perhaps `likeness.safetensors` and
            `features.safetensors`.
        record: What `model.json` says.
        model_id: MLflow's logged model that the folder is for.
        run_id: The run that it is registered in.
    """
    paths = [model_folder / name for name in (WEIGHTS, RECORD, LIKENESS, FEATURES)]
    known = {path.name: str(path) for path in paths if path.is_file()}
    with tempfile.TemporaryDirectory() as place:
        pyfunc.save_model(
            path=str(target),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            python_model=str(MODEL_CODE),
            artifacts=known | _write_golden(Path(place), model_folder),
            code_paths=[str(Path(osteo_models.__file__).parent)],
            pip_requirements=list_requirements(record),
            signature=pyfunc_model.make_signature(),
            input_example=pyfunc_model.make_example(record),
        )
    write_manifest(target, hash_files(target))


def _write_golden(place: Path, model_folder: Path) -> dict[str, str]:
    loaded = read_network(model_folder / WEIGHTS, model_folder / RECORD)
    if loaded.record.takes_pairs:  # there is no case of one image
        return {}
    path = place / GOLDEN
    path.write_text(json.dumps(make_golden(loaded), indent=1) + "\n", encoding="utf-8")
    return {GOLDEN: str(path)}


def list_requirements(record: ModelRecord) -> list[str]:
    """The packages that serving needs, at the versions installed here; a build label such as `+cpu` is left off."""
    pretrained = "weights" in find_entry(record.architecture, record.spec).spec
    names = (*REQUIREMENTS, *(PRETRAINED_REQUIREMENTS if pretrained else ()))
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


@dataclass(frozen=True)
class Draft:
    """What becomes a version.

    Attributes:
        model_folder: Holds `model.safetensors` and `model.json`.
        record: What `model.json` says.
        tags: Of the version; those that are known only when it is made are missing.
        evidence: Files that are kept as evidence.
        files: Contents of what else is kept, by name.
        job_run: Run of its job.
    """

    model_folder: Path
    record: ModelRecord
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    evidence: Sequence[Path]
    files: Mapping[str, bytes]
    job_run: str


def make_version(tracking: Tracking, draft: Draft) -> int:
    """Make a version, or finish what a killed call left of it; gives its number."""
    client, record = tracking.client, draft.record
    run = _find_run(tracking, draft)
    run_id, model_id = run.info.run_id, _find_model(client, run, draft)
    links = link_pages(
        name=record.name,
        experiment=run.info.experiment_id,
        run=run_id,
        job_run=draft.job_run,
        model_id=model_id,
    )
    card = write_card(record, draft.metrics, draft.tags, draft.tags[WEIGHTS_TAG], links)
    tags = {**draft.tags, MODEL_TAG: model_id}
    statement = write_statement(tags, draft.metrics)
    digest = _log_files(client, draft, run_id, model_id, {CARD: f"{card}\n".encode(), STATEMENT: statement})
    _log_metrics(tracking, run_id, model_id, draft.metrics)
    tracking.log_texts(run_id, _list_params(record), {NOTE_TAG: card})
    client.set_terminated(run_id, "FINISHED")
    model = client.finalize_logged_model(model_id, "READY")
    made = client.create_model_version(
        record.name,
        # Given `models:/<id>` as the source, MLflow's database store asks the process-wide store what that is.
        model.artifact_location,
        run_id=run_id,
        tags={**tags, MANIFEST_TAG: digest},
        description=card,
        model_id=model_id,
    )
    client.update_run(run_id, name=f"{record.name} version {made.version}")
    return int(made.version)


def _find_run(tracking: Tracking, draft: Draft) -> Run:
    """A child of the job's run that carries the metrics of all stages, so that MLflow can compare versions by them."""
    experiment = tracking.client.get_run(draft.job_run).info.experiment_id
    marks = {PARENT_TAG: draft.job_run, IDENTITY_TAG: draft.tags[IDENTITY_TAG]}
    for run in tracking.find_runs([experiment], marks):
        if not tracking.client.search_model_versions(f"run_id='{run.info.run_id}'"):
            return run  # of a call that was killed
    stated = {key: value for key, value in draft.tags.items() if key != JOB_TAG}  # which is of the job's run alone
    return tracking.client.create_run(experiment, tags={**stated, **marks}, run_name=f"register {draft.record.name}")


def _find_model(client: MlflowClient, run: Run, draft: Draft) -> str:
    """MLflow's logged model of a registration: made, or found where an earlier one was killed before its version."""
    run_id, record = run.info.run_id, draft.record
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else ():
        try:
            return client.get_logged_model(output.model_id).model_id
        except MlflowException as error:
            if not is_missing(error):  # one that `osteo gc` took is made again
                raise
    tags = {JOB_TAG: record.key, IDENTITY_TAG: draft.tags[IDENTITY_TAG]}
    model = client.create_logged_model(run.info.experiment_id, record.name, run_id, tags, _list_params(record))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


def _log_files(client: MlflowClient, draft: Draft, run_id: str, model_id: str, records: Mapping[str, bytes]) -> str:
    """Upload the package with its manifest; gives the manifest's SHA-256."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "version"
        write_package(folder, draft.model_folder, draft.record, model_id=model_id, run_id=run_id)
        for path in draft.evidence:  # under the name of its folder
            target = folder / EVIDENCE / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (folder / RECORDS).mkdir()
        for name, content in {**draft.files, **records}.items():
            (folder / RECORDS / name).write_bytes(content)
        digest = write_manifest(folder, hash_files(folder))
        client.log_model_artifacts(model_id, str(folder))
    return digest


def _log_metrics(tracking: Tracking, run_id: str, model_id: str, metrics: Mapping[str, float]) -> None:
    """Log what a killed call did not log to the run and to its model."""
    now, logged = int(time.time() * 1000), tracking.client.get_logged_model(model_id).metrics or ()
    left = metrics.keys() - {point.key for point in logged}
    points = [Metric(name, metrics[name], now, 0, model_id=model_id, run_id=run_id) for name in sorted(left)]
    tracking.log_points(run_id, points)


def _list_params(record: ModelRecord) -> dict[str, str]:
    spec = {f"spec.{key}": str(value) for key, value in record.spec.items()}
    spec |= {"members": str(record.members)} if record.members > 1 else {}
    return {"architecture": record.architecture, "images": record.images, "precision": record.precision, **spec}
