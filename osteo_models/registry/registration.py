"""Registration of model versions: each is made once and never changed.

The steps in MLflow are a run, a logged model with the package's files, metrics, and at last the version. A killed call
leaves some of them; the next one finds them and continues. What is finished is never opened again.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import StaleDataError
from osteo_models.core.files import hash_file
from osteo_models.data.code_tree import COMMIT
from osteo_models.registry.manifest import hash_files
from osteo_models.registry.model_card import format_metric, link_pages, write_card
from osteo_models.registry.package import ARTIFACTS, EVIDENCE, MANIFEST_TAG, RECORDS, open_package
from osteo_models.registry.package_writer import write_package
from osteo_models.registry.records import CARD, STATEMENT, find_changes, write_statement
from osteo_models.registry.runs import JOB_TAG, NOTE_TAG, PARENT_TAG, list_all
from osteo_models.registry.store import is_missing, serialize_writes
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import (
    CHALLENGER,
    IDENTITY_TAG,
    MODEL_TAG,
    RECORD_TAG,
    WEIGHTS_TAG,
    VersionInfo,
    find_alias,
    get_version,
    list_headlines,
    set_alias,
)
from osteo_models.serving.model_record import RECORD, WEIGHTS, ModelRecord
from osteo_models.serving.network import LoadedNetwork, read_network

LINK_TAG: Final = "mlflow.modelVersions"  # of a logged model: its page then links to the version


@dataclass(frozen=True)
class Draft:
    """What becomes a version.

    Attributes:
        model_folder: Holds `model.safetensors`, `model.json` and perhaps `ood.safetensors`.
        network: The network in it.
        tags: Tags of the version, except those that are known only when it is made.
        contents: Further files, or their content, by their path in the package.
        job_run: Run of its job.
    """

    model_folder: Path
    network: LoadedNetwork
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    contents: Mapping[str, Path | bytes]
    job_run: str

    @property
    def record(self) -> ModelRecord:
        """The content of `model.json`."""
        return self.network.record


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
    """Register a network as a version.

    The same weights, evidence, metrics and code are the same version: nothing is written again, and what a killed
    call left is finished. Anything else, or a damaged version, makes another version, which becomes the challenger.

    Args:
        model_folder: Holds `model.safetensors`, `model.json` and perhaps `ood.safetensors`.
        metrics: Metrics of all stages it took part in, by their full names.
        tags: Its origin: `git.tree`, `dvc.data`, `synthetic`, ...
        evidence: Files kept with the version, such as predictions.
        files: Contents of further files kept with the version, by name: see `records.collect_files`.
        run_id: Run of its job.

    Raises:
        WeightsError: Weights or record are missing or damaged; nothing was registered.
    """
    network = read_network(model_folder)  # what cannot be loaded is not registered
    record, hashes = network.record, hash_files(model_folder)
    defined = {name: float(value) for name, value in metrics.items() if not math.isnan(value)}  # MLflow shows NaN as 0
    contents: dict[str, Path | bytes] = {f"{EVIDENCE}/{path.parent.name}/{path.name}": path for path in evidence}
    contents |= {f"{RECORDS}/{name}": content for name, content in files.items()}
    marks = {JOB_TAG: record.key, WEIGHTS_TAG: hashes[WEIGHTS], RECORD_TAG: hashes[RECORD]}
    marks[IDENTITY_TAG] = _identify(hashes, contents, defined, tags)
    headlines = {name: format_metric(defined, name) for name in list_headlines(defined)}
    draft = Draft(model_folder, network, defined, {**tags, **marks, **headlines}, contents, run_id)
    with tracking.writing(), serialize_writes(tracking.uri):
        _ensure_model(tracking.client, record)
        identical = _find_identical(tracking, record.name, marks[IDENTITY_TAG])
        number = next((version.version for version in identical if _is_whole(tracking, version)), None)
        if number is None:
            number = _make_version(tracking, draft)
        _publish(tracking, get_version(tracking, f"{record.name}/{number}"))
        return get_version(tracking, f"{record.name}/{number}")


def _identify(
    model_hashes: Mapping[str, str],
    contents: Mapping[str, Path | bytes],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """SHA-256 over everything that a version is; the commit that happens to be checked out does not belong to it."""
    hashes = {f"{ARTIFACTS}/{name}": digest for name, digest in model_hashes.items()}
    for name, content in contents.items():
        hashes[name] = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else hash_file(content)
    tags = {name: value for name, value in tags.items() if name != COMMIT}
    identity = json.dumps({"files": hashes, "metrics": dict(metrics), "tags": tags}, sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _ensure_model(client: MlflowClient, record: ModelRecord) -> None:
    about = f"Osteoporosis on lumbar images: architecture {record.architecture}, image set {record.images}."
    tags = {"architecture": record.architecture, "images": record.images}
    try:
        client.create_registered_model(record.name, tags, about)
    except MlflowException:
        client.get_registered_model(record.name)  # it exists already, or this raises the reason


def _find_identical(tracking: Tracking, name: str, identity: str) -> list[VersionInfo]:
    """The versions of an identity, the oldest first: more than one where the first was damaged."""
    clause = f"name='{name}' and tags.`{IDENTITY_TAG}`='{identity}'"
    found = list_all(tracking.client.search_model_versions, clause)
    return [get_version(tracking, f"{name}/{number}") for number in sorted(int(one.version) for one in found)]


def _is_whole(tracking: Tracking, version: VersionInfo) -> bool:
    """Whether every file, tag and metric of a version is as it was registered."""
    try:
        with open_package(tracking, version) as package:
            return not any(find_changes(package))
    except StaleDataError:
        return False


def _publish(tracking: Tracking, version: VersionInfo) -> None:
    """Link MLflow's page of the model to its version, and make that the challenger unless a later one is."""
    link = json.dumps([{"name": version.name, "version": str(version.version)}])
    if tracking.client.get_logged_model(version.model_id).tags.get(LINK_TAG) != link:
        tracking.client.set_logged_model_tags(version.model_id, {LINK_TAG: link})
    challenger = find_alias(tracking, version.name, CHALLENGER)
    if challenger is None or challenger < version.version:
        set_alias(tracking, version.name, CHALLENGER, version.version)


def _make_version(tracking: Tracking, draft: Draft) -> int:
    """Make a version, or finish what a killed call left of it; gives its number."""
    client, record = tracking.client, draft.record
    run = _find_run(tracking, draft)
    run_id, experiment, model_id = run.info.run_id, run.info.experiment_id, _find_model(client, run, draft)
    links = link_pages(name=record.name, experiment=experiment, run=run_id, job_run=draft.job_run, model_id=model_id)
    card = write_card(record, draft.metrics, draft.tags, draft.tags[WEIGHTS_TAG], links)
    tags = {**draft.tags, MODEL_TAG: model_id}
    records = {CARD: f"{card}\n".encode(), STATEMENT: write_statement(tags, draft.metrics)}
    contents = {**draft.contents, **{f"{RECORDS}/{name}": content for name, content in records.items()}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        package = (folder, draft.model_folder, draft.network)
        digest = write_package(*package, model_id=model_id, run_id=run_id, contents=contents)
        client.log_model_artifacts(model_id, str(folder))
    _log_metrics(tracking, run_id, model_id, draft.metrics)
    tracking.log_texts(run, _list_params(record), {NOTE_TAG: card})
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
    tags = {key: value for key, value in draft.tags.items() if key != JOB_TAG} | marks  # that tag marks a job's own run
    return tracking.client.create_run(experiment, tags=tags, run_name=f"register {draft.record.name}")


def _find_model(client: MlflowClient, run: Run, draft: Draft) -> str:
    """MLflow's logged model of a registration: made, or found where an earlier one was killed before its version."""
    run_id, record = run.info.run_id, draft.record
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else ():
        try:
            return client.get_logged_model(output.model_id).model_id
        except MlflowException as error:
            if not is_missing(error):  # one that `osteo gc` removed is made again
                raise
    tags = {JOB_TAG: record.key, IDENTITY_TAG: draft.tags[IDENTITY_TAG]}
    model = client.create_logged_model(run.info.experiment_id, record.name, run_id, tags, _list_params(record))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


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
