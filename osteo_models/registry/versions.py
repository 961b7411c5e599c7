"""Registered model versions: one for each pair of weights and job, made here and found in `lookup`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow.entities import LoggedModelOutput, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.errors import StaleDataError
from osteo_models.registry.card import format_metric, link_pages, write_card
from osteo_models.registry.checksums import hash_files, read_manifest, write_manifest
from osteo_models.registry.listing import list_all
from osteo_models.registry.lookup import (
    CHALLENGER,
    CHAMPION,
    MODEL_TAG,
    RECORD_TAG,
    WEIGHTS_TAG,
    VersionInfo,
    get_version,
    list_versions,
    set_alias,
)
from osteo_models.registry.manifest import MANIFEST_TAG, load_network, open_package
from osteo_models.registry.network import FEATURES, LIKENESS, RECORD, WEIGHTS, ModelRecord, hash_file, read_network
from osteo_models.registry.origin import RECORDS
from osteo_models.registry.package import write_package
from osteo_models.registry.runs import JOB_TAG, NOTE_TAG, PARENT_TAG
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking
from osteo_models.terms import PROTOCOLS, find_stages, metric_prefix

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "VersionInfo",
    "get_version",
    "list_headlines",
    "list_versions",
    "load_network",
    "register_version",
    "set_alias",
]

EVIDENCE: Final = "evidence"
CARD: Final = "card.md"


def register_version(
    tracking: Tracking,
    *,
    model_folder: Path,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    evidence: Sequence[Path] = (),
    files: Mapping[str, bytes] = MappingProxyType({}),
    run_id: str,
) -> VersionInfo:
    """Register a network; the same weights of the same job are the same version, with its metrics brought up to date.

    Args:
        tracking: The store.
        model_folder: Holds `model.safetensors` and `model.json`.
        metrics: Of all stages it took part in, by their full names.
        tags: Where it comes from: `git.commit`, `dvc.data`, `synthetic`, ...
        evidence: Files kept with the version, such as predictions.
        files: Contents of what else is kept with the version, by name: see `origin`.
        run_id: Of its job.

    Raises:
        WeightsError: Weights or record are missing or damaged; nothing was registered.
        StoreError: The store cannot be used.
    """
    weights = model_folder / WEIGHTS
    loaded = read_network(weights, model_folder / RECORD)  # what cannot be loaded is not registered
    record, sha256 = loaded.record, hash_file(weights)
    name = record.name
    with tracking.writing():
        client = tracking.client
        _ensure_model(client, name, record)
        # The record holds what scoring does beside the weights, such as the threshold: another record, another version.
        marks = {JOB_TAG: record.key, WEIGHTS_TAG: sha256, RECORD_TAG: hash_file(model_folder / RECORD)}
        run = _registration_run(tracking, run_id, name, {**tags, **marks})
        found = _find_marked(client, name, marks)
        model_id = found.tags[MODEL_TAG] if found else _log_model(client, run, name, record, marks)
        tracking.log_changes(client.get_run(run.info.run_id), metrics, model_id)
        links = link_pages(
            name=name, experiment=run.info.experiment_id, run=run.info.run_id, job_run=run_id, model_id=model_id
        )
        noted = {**(found.tags if found else {}), **tags}  # the promotion and waivers stay in sight
        card = write_card(record, metrics, noted, sha256, links)
        kept = _find_intact(tracking, found, model_folder)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "version"
            if kept:
                folder.mkdir()
            else:
                write_package(folder, model_folder, record, model_id=model_id, run_id=run.info.run_id)
            _add_files(folder, {**files, CARD: f"{card}\n".encode()}, evidence)
            digest = _log_files(client, model_id, folder, kept)
        stated = {**tags, **marks, MODEL_TAG: model_id, MANIFEST_TAG: digest, **_headlines(metrics)}
        if found is None:
            client.finalize_logged_model(model_id, "READY")
            found = _create_version(client, name, model_id, run.info.run_id, stated, card)
        else:
            _refresh(client, found, stated, card)
        tracking.log_texts(run.info.run_id, _params(record), {NOTE_TAG: card})
        client.update_run(run.info.run_id, name=f"{name} version {found.version}")
        client.set_terminated(run.info.run_id, "FINISHED")
        client.set_registered_model_alias(name, CHALLENGER, found.version)  # whatever was registered last stands for it
        return get_version(tracking, f"{name}/{found.version}")


def _ensure_model(client: MlflowClient, name: str, record: ModelRecord) -> None:
    about = f"Osteoporosis on lumbar images: architecture {record.architecture}, image set {record.images}."
    try:
        client.create_registered_model(name, {"architecture": record.architecture, "images": record.images}, about)
    except MlflowException:
        client.get_registered_model(name)  # it is there already, or this says what is wrong


def _registration_run(tracking: Tracking, job_run: str, name: str, tags: Mapping[str, str]) -> Run:
    """A child of the job's run that carries the metrics of all stages, so that MLflow can compare versions by them."""
    parent = tracking.client.get_run(job_run)
    marks = {PARENT_TAG: job_run, WEIGHTS_TAG: tags[WEIGHTS_TAG], RECORD_TAG: tags[RECORD_TAG]}
    found = tracking.find_runs([parent.info.experiment_id], marks)
    if found:
        return found[0]
    stated = {key: value for key, value in tags.items() if key != JOB_TAG} | marks  # the job's tag is its run's alone
    return tracking.client.create_run(parent.info.experiment_id, tags=stated, run_name=f"register {name}")


def _find_marked(client: MlflowClient, name: str, marks: Mapping[str, str]) -> ModelVersion | None:
    for version in list_all(client.search_model_versions, f"name='{name}'"):
        if all(version.tags.get(key) == value for key, value in marks.items()):
            return version
    return None


def _log_model(client: MlflowClient, run: Run, name: str, record: ModelRecord, marks: Mapping[str, str]) -> str:
    """MLflow's logged model of a registration: made, or found where an earlier one was killed before its version."""
    run_id = run.info.run_id
    kept = client.get_run(run_id).outputs
    for output in kept.model_outputs if kept else ():
        try:
            return client.get_logged_model(output.model_id).model_id
        except MlflowException as error:
            if not is_missing(error):  # one that `osteo gc` took is made again
                raise
    model = client.create_logged_model(run.info.experiment_id, name, run_id, dict(marks), _params(record))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


def _find_intact(tracking: Tracking, found: ModelVersion | None, model_folder: Path) -> dict[str, str]:
    """What a version keeps already, if every byte is as it was registered; if not, everything is written anew.

    So it is where an earlier release registered it without something that a version has now.
    """
    if found is None:
        return {}
    version = get_version(tracking, f"{found.name}/{found.version}")
    wanted = {f"artifacts/{name}" for name in (LIKENESS, FEATURES) if (model_folder / name).is_file()}
    try:
        with open_package(tracking, version) as folder:
            listed = read_manifest(folder)
    except StaleDataError:
        return {}
    return listed if wanted <= listed.keys() else {}


def _add_files(folder: Path, files: Mapping[str, bytes], evidence: Iterable[Path]) -> None:
    """Put files and evidence beside the package; each file of evidence under the name of its folder."""
    for path in evidence:
        target = folder / EVIDENCE / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / RECORDS).mkdir()
    for name, content in files.items():
        (folder / RECORDS / name).write_bytes(content)


def _log_files(client: MlflowClient, model_id: str, folder: Path, kept: Mapping[str, str]) -> str:
    """Upload what is new or changed, with the manifest of everything; gives the manifest's SHA-256."""
    own = hash_files(folder)
    digest = write_manifest(folder, {**kept, **own})
    if any(kept.get(name) != value for name, value in own.items()):
        client.log_model_artifacts(model_id, str(folder))
    return digest


def _params(record: ModelRecord) -> dict[str, str]:
    spec = {f"spec.{key}": str(value) for key, value in record.spec.items()}
    spec |= {"members": str(record.members)} if record.members > 1 else {}
    return {"architecture": record.architecture, "images": record.images, "precision": record.precision, **spec}


def _create_version(
    client: MlflowClient, name: str, model_id: str, run_id: str, tags: Mapping[str, str], card: str
) -> ModelVersion:
    # Given `models:/<id>` as the source, MLflow's database store asks the process-wide store what that is.
    source = client.get_logged_model(model_id).artifact_location
    found = client.create_model_version(
        name, source, run_id=run_id, tags=dict(tags), description=card, model_id=model_id
    )
    known = json.dumps([{"name": name, "version": str(found.version)}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": known})  # the model's page then links to it
    return found


def _refresh(client: MlflowClient, found: ModelVersion, tags: Mapping[str, str], card: str) -> None:
    for key, value in tags.items():
        if found.tags.get(key) != str(value):
            client.set_model_version_tag(found.name, found.version, key, str(value))
    if found.description != card:
        client.update_model_version(found.name, found.version, card)


def _headlines(metrics: Mapping[str, float]) -> dict[str, str]:
    """The balanced accuracies as tags, which is what MLflow's page of a model shows of its versions."""
    return {name: format_metric(metrics, name) for name in list_headlines(metrics)}


def list_headlines(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are shown where there is room for little: balanced accuracy by stage and protocol."""
    heads = [metric_prefix(stage, protocol) for stage in find_stages(metrics) for protocol in PROTOCOLS]
    return [f"{head}.balanced_accuracy" for head in heads if f"{head}.balanced_accuracy" in metrics]
