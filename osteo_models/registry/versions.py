"""Registered model versions: made here, once and for good, and found in `lookup`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.data.code_tree import COMMIT
from osteo_models.errors import StaleDataError
from osteo_models.registry.card import format_metric, link_pages, write_card
from osteo_models.registry.inspection import hash_code
from osteo_models.registry.lookup import (
    CHALLENGER,
    CHAMPION,
    CODE_TAG,
    MODEL_TAG,
    RECORD_TAG,
    WEIGHTS_TAG,
    VersionInfo,
    find_alias,
    get_version,
    list_versions,
    load_network,
    set_alias,
)
from osteo_models.registry.manifest import MANIFEST_TAG, hash_files, open_files, read_listing, write_manifest
from osteo_models.registry.network import RECORD, WEIGHTS, ModelRecord, hash_file, read_network
from osteo_models.registry.origin import RECORDS
from osteo_models.registry.package import write_package
from osteo_models.registry.runs import JOB_TAG, NOTE_TAG, PARENT_TAG
from osteo_models.registry.statement import CARD, STATEMENT, find_changes, write_statement
from osteo_models.registry.tracking import Tracking
from osteo_models.terms import PROTOCOLS, STAGES, metric_prefix

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "HEADLINES",
    "VersionInfo",
    "get_version",
    "list_versions",
    "load_network",
    "register_version",
    "set_alias",
]

# What is shown of a version where there is room for little.
HEADLINES: Final = tuple(
    f"{metric_prefix(stage, protocol)}.balanced_accuracy" for stage in STAGES for protocol in PROTOCOLS
)
EVIDENCE: Final = "evidence"
IDENTITY_TAG: Final = "osteo.identity"
LINK_TAG: Final = "mlflow.modelVersions"  # of a logged model


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
    """Register a network as a version, of which nothing changes any more.

    The same weights, evidence, metrics and code are the same version: nothing is written again, and what a killed
    call left is finished. Anything else is another version, which becomes the challenger; so it is, too, where the
    stored one was damaged.

    Args:
        tracking: The store.
        model_folder: Holds `model.safetensors` and `model.json`.
        metrics: Of all stages it took part in, by their full names.
        tags: Where it comes from: `git.tree`, `dvc.data`, `synthetic`, ...
        evidence: Files kept with the version, such as predictions.
        files: Contents of what else is kept with the version, by name: see `origin`.
        run_id: Of its job.

    Raises:
        WeightsError: Weights or record are missing or damaged; nothing was registered.
        StoreError: The store cannot be used.
    """
    weights = model_folder / WEIGHTS
    record = read_network(weights, model_folder / RECORD).record  # what cannot be loaded is not registered
    marks = {JOB_TAG: record.key, WEIGHTS_TAG: hash_file(weights), RECORD_TAG: hash_file(model_folder / RECORD)}
    marks[IDENTITY_TAG] = _identify(model_folder, evidence, files, metrics, tags)
    given = {**tags, **marks, **_headlines(metrics)}
    with tracking.writing():
        client = tracking.client
        _ensure_model(client, record.name, record)
        known = _find_identical(tracking, record.name, marks[IDENTITY_TAG])
        version = next((each for each in known if _is_whole(tracking, each)), None)
        if version is None:
            run = _registration_run(tracking, run_id, record.name, given, [each.model_id for each in known])
            model_id = _log_model(client, run, record, marks)
            stated = {**given, MODEL_TAG: model_id}
            links = link_pages(
                name=record.name,
                experiment=run.info.experiment_id,
                run=run.info.run_id,
                job_run=run_id,
                model_id=model_id,
            )
            card = write_card(record, metrics, tags, marks[WEIGHTS_TAG], links)
            texts = {**files, CARD: f"{card}\n".encode(), STATEMENT: write_statement(stated, metrics)}
            digest = _log_files(client, run, model_id, model_folder, record, texts, evidence)
            _log_metrics(tracking, run, model_id, metrics)
            tracking.log_texts(run.info.run_id, _params(record), {NOTE_TAG: card})
            client.set_terminated(run.info.run_id, "FINISHED")
            client.finalize_logged_model(model_id, "READY")
            made = _create_version(client, record.name, run.info.run_id, {**stated, MANIFEST_TAG: digest}, card)
            client.update_run(run.info.run_id, name=f"{record.name} version {made.version}")
            version = get_version(tracking, f"{record.name}/{made.version}")
        _point_at(tracking, version)
        return get_version(tracking, f"{version.name}/{version.version}")


def _identify(
    model_folder: Path,
    evidence: Iterable[Path],
    files: Mapping[str, bytes],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """SHA-256 over everything that a version is. The commit that happens to be checked out does not belong to it."""
    hashes = {f"artifacts/{path.name}": hash_file(path) for path in model_folder.iterdir() if path.is_file()}
    hashes |= {f"{EVIDENCE}/{path.parent.name}/{path.name}": hash_file(path) for path in evidence}
    hashes |= {f"{RECORDS}/{name}": hashlib.sha256(content).hexdigest() for name, content in files.items()}
    named = {name: text for name, text in tags.items() if name != COMMIT}
    content = json.dumps({"files": hashes, "metrics": dict(metrics), "tags": named}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _ensure_model(client: MlflowClient, name: str, record: ModelRecord) -> None:
    about = f"Osteoporosis on lumbar images: architecture {record.architecture}, image set {record.images}."
    try:
        client.create_registered_model(name, {"architecture": record.architecture, "images": record.images}, about)
    except MlflowException:
        client.get_registered_model(name)  # it is there already, or this says what is wrong


def _find_identical(tracking: Tracking, name: str, identity: str) -> list[VersionInfo]:
    """The versions of an identity, the oldest first: more than one where the first was damaged."""
    found = tracking.client.search_model_versions(f"name='{name}' and tags.`{IDENTITY_TAG}`='{identity}'")
    return [get_version(tracking, f"{name}/{number}") for number in sorted(int(each.version) for each in found)]


def _is_whole(tracking: Tracking, version: VersionInfo) -> bool:
    """Whether every file, tag and metric of a version is as it was registered."""
    try:
        listed = read_listing(tracking, version)
        with open_files(tracking, version) as folder:
            stored = hash_files(folder)
        return all(stored.get(name) == digest for name, digest in listed.items()) and not any(
            find_changes(tracking, version)
        )
    except StaleDataError:
        return False


def _registration_run(
    tracking: Tracking, job_run: str, name: str, tags: Mapping[str, str], taken: Iterable[str]
) -> Run:
    """A child of the job's run that carries the metrics of all stages, so that MLflow can compare versions by them.

    Args:
        tracking: The store.
        job_run: Of the job.
        name: Of the registered model.
        tags: Of the version to be.
        taken: Logged models of finished registrations, whose runs stay as they are.
    """
    parent = tracking.client.get_run(job_run)
    marks = {PARENT_TAG: job_run, IDENTITY_TAG: tags[IDENTITY_TAG]}
    for run in tracking.find_runs([parent.info.experiment_id], marks):
        if not set(_list_models(run)) & set(taken):
            return run
    stated = {key: value for key, value in tags.items() if key != JOB_TAG} | marks  # the job's tag is its run's alone
    return tracking.client.create_run(parent.info.experiment_id, tags=stated, run_name=f"register {name}")


def _list_models(run: Run) -> list[str]:
    return [output.model_id for output in (run.outputs.model_outputs if run.outputs else ())]


def _log_model(client: MlflowClient, run: Run, record: ModelRecord, marks: Mapping[str, str]) -> str:
    """MLflow's logged model of a registration: made, or found where an earlier one was killed before its version."""
    run_id = run.info.run_id
    for model_id in _list_models(client.get_run(run_id)):
        with contextlib.suppress(MlflowException):  # one that `osteo gc` took
            return client.get_logged_model(model_id).model_id
    model = client.create_logged_model(run.info.experiment_id, record.name, run_id, dict(marks), _params(record))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


def _log_files(
    client: MlflowClient,
    run: Run,
    model_id: str,
    model_folder: Path,
    record: ModelRecord,
    texts: Mapping[str, bytes],
    evidence: Iterable[Path],
) -> str:
    """Upload the package with its manifest; gives the manifest's SHA-256."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "version"
        write_package(folder, model_folder, record, model_id=model_id, run_id=run.info.run_id)
        client.set_logged_model_tags(model_id, {CODE_TAG: hash_code(folder)})
        for path in evidence:  # under the name of its folder
            target = folder / EVIDENCE / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (folder / RECORDS).mkdir()
        for name, content in texts.items():
            (folder / RECORDS / name).write_bytes(content)
        digest = write_manifest(folder, hash_files(folder))
        client.log_model_artifacts(model_id, str(folder))
    return digest


def _log_metrics(tracking: Tracking, run: Run, model_id: str, metrics: Mapping[str, float]) -> None:
    """Log what a killed call did not log to the run and to its model."""
    run_id, now = run.info.run_id, int(time.time() * 1000)
    known = {point.key for point in tracking.client.get_logged_model(model_id).metrics or ()}
    left = {name: float(value) for name, value in metrics.items() if name not in known}
    points = [Metric(name, value, now, 0, model_id=model_id, run_id=run_id) for name, value in left.items()]
    tracking.log_points(run_id, points)


def _params(record: ModelRecord) -> dict[str, str]:
    spec = {f"spec.{key}": str(value) for key, value in record.spec.items()}
    spec |= {"members": str(record.members)} if record.members > 1 else {}
    return {"architecture": record.architecture, "images": record.images, "precision": record.precision, **spec}


def _create_version(client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str], card: str) -> ModelVersion:
    model_id = tags[MODEL_TAG]
    # Given `models:/<id>` as the source, MLflow's database store asks the process-wide store what that is.
    source = client.get_logged_model(model_id).artifact_location
    return client.create_model_version(
        name, source, run_id=run_id, tags=dict(tags), description=card, model_id=model_id
    )


def _point_at(tracking: Tracking, version: VersionInfo) -> None:
    """Link MLflow's page of the model to its version, and make that the challenger unless a later one is."""
    client, link = tracking.client, [{"name": version.name, "version": str(version.version)}]
    wanted = {LINK_TAG: json.dumps(link)}
    if client.get_logged_model(version.model_id).tags.get(LINK_TAG) != wanted[LINK_TAG]:
        client.set_logged_model_tags(version.model_id, wanted)
    challenger = find_alias(tracking, version.name, CHALLENGER)
    if challenger is None or challenger < version.version:
        set_alias(tracking, version.name, CHALLENGER, version.version)


def _headlines(metrics: Mapping[str, float]) -> dict[str, str]:
    """The balanced accuracies as tags, which is what MLflow's page of a model shows of its versions."""
    return {name: format_metric(metrics, name) for name in HEADLINES if name in metrics}
