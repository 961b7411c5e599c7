"""Registered model versions: made here, once and for good, and found in `lookup`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import StaleDataError
from osteo_models.core.files import hash_file
from osteo_models.core.terms import PROTOCOLS, find_stages, metric_prefix
from osteo_models.data.code_tree import COMMIT
from osteo_models.registry.lookup import (
    CHALLENGER,
    CHAMPION,
    IDENTITY_TAG,
    RECORD_TAG,
    WEIGHTS_TAG,
    VersionInfo,
    find_alias,
    get_version,
    list_versions,
    set_alias,
)
from osteo_models.registry.manifest import load_network, open_package
from osteo_models.registry.model_card import format_metric
from osteo_models.registry.records import find_changes
from osteo_models.registry.registration import Draft, make_version
from osteo_models.registry.runs import JOB_TAG, list_all
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.network import RECORD, WEIGHTS, ModelRecord, read_network

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

LINK_TAG: Final = "mlflow.modelVersions"  # of a logged model: its page then links to the version


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
    weights, path = model_folder / WEIGHTS, model_folder / RECORD
    record = read_network(weights, path).record  # what cannot be loaded is not registered
    known = {name: float(value) for name, value in metrics.items() if not math.isnan(value)}  # MLflow shows NaN as 0
    draft = Draft(model_folder, record, known, tags, evidence, files, run_id)
    identity, headlines = _identify(draft), {name: format_metric(known, name) for name in list_headlines(known)}
    marks = {JOB_TAG: record.key, WEIGHTS_TAG: hash_file(weights), RECORD_TAG: hash_file(path), IDENTITY_TAG: identity}
    draft = replace(draft, tags={**tags, **marks, **headlines})
    with tracking.writing():
        _ensure_model(tracking.client, record)
        identical = _find_identical(tracking, record.name, identity)
        number = next((each.version for each in identical if _is_whole(tracking, each)), None)
        if number is None:
            number = make_version(tracking, draft)
        _point_at(tracking, get_version(tracking, f"{record.name}/{number}"))
        return get_version(tracking, f"{record.name}/{number}")


def _identify(draft: Draft) -> str:
    """SHA-256 over everything that a version is. The commit that happens to be checked out does not belong to it."""
    hashes = {f"artifacts/{path.name}": hash_file(path) for path in draft.model_folder.iterdir() if path.is_file()}
    hashes |= {f"evidence/{path.parent.name}/{path.name}": hash_file(path) for path in draft.evidence}
    hashes |= {f"record/{name}": hashlib.sha256(content).hexdigest() for name, content in draft.files.items()}
    tags = {name: text for name, text in draft.tags.items() if name != COMMIT}
    content = json.dumps({"files": hashes, "metrics": draft.metrics, "tags": tags}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _ensure_model(client: MlflowClient, record: ModelRecord) -> None:
    about = f"Osteoporosis on lumbar images: architecture {record.architecture}, image set {record.images}."
    try:
        client.create_registered_model(
            record.name, {"architecture": record.architecture, "images": record.images}, about
        )
    except MlflowException:
        client.get_registered_model(record.name)  # it is there already, or this says what is wrong


def _find_identical(tracking: Tracking, name: str, identity: str) -> list[VersionInfo]:
    """The versions of an identity, the oldest first: more than one where the first was damaged."""
    clause = f"name='{name}' and tags.`{IDENTITY_TAG}`='{identity}'"
    found = list_all(tracking.client.search_model_versions, clause)
    return [get_version(tracking, f"{name}/{number}") for number in sorted(int(each.version) for each in found)]


def _is_whole(tracking: Tracking, version: VersionInfo) -> bool:
    """Whether every file, tag and metric of a version is as it was registered."""
    try:
        with open_package(tracking, version):
            return not any(find_changes(tracking, version))
    except StaleDataError:
        return False


def _point_at(tracking: Tracking, version: VersionInfo) -> None:
    """Link MLflow's page of the model to its version, and make that the challenger unless a later one is."""
    client, link = tracking.client, [{"name": version.name, "version": str(version.version)}]
    wanted = {LINK_TAG: json.dumps(link)}
    if client.get_logged_model(version.model_id).tags.get(LINK_TAG) != wanted[LINK_TAG]:
        client.set_logged_model_tags(version.model_id, wanted)
    challenger = find_alias(tracking, version.name, CHALLENGER)
    if challenger is None or challenger < version.version:
        set_alias(tracking, version.name, CHALLENGER, version.version)


def list_headlines(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are shown where there is room for little: balanced accuracy by stage and protocol."""
    heads = [metric_prefix(stage, protocol) for stage in find_stages(metrics) for protocol in PROTOCOLS]
    return [f"{head}.balanced_accuracy" for head in heads if f"{head}.balanced_accuracy" in metrics]
