"""Records that a version keeps of its origin, and the check of a version against its own statement."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import yaml

from osteo_models.core.errors import StaleDataError
from osteo_models.core.files import hash_file
from osteo_models.core.params import Params
from osteo_models.core.settings import Settings
from osteo_models.data.code_tree import COMMIT, TREE
from osteo_models.data.revisions import read_data_digest
from osteo_models.registry.package import MANIFEST_TAG, ORIGIN, RECORDS, Package
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.model_record import ModelRecord

SPLITS: Final = ("splits.csv", "pairs.csv")  # in the folder of this name, of the artifacts and of the evidence
LOCK: Final = "requirements.lock"
SEARCH: Final = "search/best.yaml"
PACKAGES: Final = ("osteo-models", "torch", "numpy", "ray", "mlflow", "pydicom", "safetensors")
STATEMENT: Final = "version.json"
CARD: Final = "card.md"
OWN: Final = ("osteo.", "git.", "dvc.", "stage_", "profile", "synthetic")  # how tags that we write begin


def collect_files(settings: Settings, params: Params, tracking: Tracking, model: ModelRecord) -> dict[str, bytes]:
    """The files that a version keeps beside weights, predictions and card.

    Args:
        params: Those in force.
        tracking: The store, which holds the run of the version's job.
        model: The content of `model.json`.

    Returns:
        Contents by name: selection.json, params.yaml and origin.json; data.dvc and requirements.lock where the project
        has them. The split tables belong to the evidence: see `list_splits`.

    Raises:
        StaleDataError: An artifact is missing.
    """
    artifacts, root = settings.artifacts, settings.root
    files = {
        "selection.json": _read(artifacts / "cohort" / "selection.json"),
        "params.yaml": yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, width=100).encode(),
    }
    for path in (root / f"{params.data.path}.dvc", root / LOCK):
        if path.is_file():
            files[path.name] = path.read_bytes()
    origin = _describe_origin(settings, params, tracking, model, files)
    return {**files, Path(ORIGIN).name: (json.dumps(origin, indent=1) + "\n").encode()}


def list_splits(artifacts: Path) -> list[Path]:
    """The tables that say who was trained on and who was tested on; they are kept as evidence.

    Raises:
        StaleDataError: One is missing.
    """
    paths = [artifacts / "splits" / name for name in SPLITS]
    for path in paths:
        if not path.is_file():
            raise StaleDataError("file not found", where=str(path), remedy="make it with `dvc repro splits`")
    return paths


def _describe_origin(
    settings: Settings, params: Params, tracking: Tracking, model: ModelRecord, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """The content of `origin.json`: data, code, environment, search, parent weights, and the jobs behind the metrics.

    Nothing here changes by a commit: the same model, registered again, is the same version.
    """
    jobs = [
        entry
        for entry in json.loads(_read(settings.artifacts / "jobs.json"))
        if (entry["architecture"], entry["images"]) == (model.architecture, model.images)
    ]
    own = next((entry for entry in jobs if entry["key"] == model.key), {})
    return {
        "data": {
            "path": params.data.path,
            "md5": read_data_digest(settings.root, params.data.path) or "",
        },
        "splits": {"md5": hash_file(list_splits(settings.artifacts)[0], "md5")},
        "code": {
            "trained": _trained_at(tracking, model.key),
            "results": model.content.get("job", {}).get("versions", {}),
        },
        "environment": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",  # the same after an update of the kernel
            "packages": {name: found for name in PACKAGES if (found := _find_version(name))},
            "lock_sha256": hashlib.sha256(files[LOCK]).hexdigest() if LOCK in files else "",
        },
        "search": _find_search(settings.artifacts, model),
        "parent_weights": {"name": own["weights"], "sha256": own["weights_sha256"]}
        if own.get("weights_sha256")
        else None,
        "jobs": jobs,
    }


def _trained_at(tracking: Tracking, key: str) -> dict[str, str]:
    """Commit and tree of the job's run, which are older than those of the registration where the job was reused."""
    job = tracking.find_job(key)
    with tracking.reading():
        tags = tracking.client.get_run(job.run_id).data.tags if job else {}
    return {name: tags[name] for name in (COMMIT, TREE) if name in tags}


def _find_search(artifacts: Path, model: ModelRecord) -> dict[str, Any] | None:
    """The candidate of the architecture search whose spec this is; None where nothing was searched for it."""
    path = artifacts / SEARCH
    if not path.is_file():
        return None
    best = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if (best.get("architecture"), best.get("spec")) != (model.architecture, model.spec):
        return None
    return {name: value for name, value in best.items() if name != "spec"} | {"sha256": hash_file(path)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StaleDataError("file not found", where=str(path), remedy="make it with `dvc repro`") from None


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def write_statement(tags: Mapping[str, str], metrics: Mapping[str, float]) -> bytes:
    """The content of the file."""
    return (json.dumps({"tags": dict(tags), "metrics": dict(metrics)}, indent=1, sort_keys=True) + "\n").encode()


def find_changes(package: Package) -> Iterator[str]:
    """How a version in MLflow differs from what it stated when it was registered.

    Tags that other programs added are ignored, and the description may have grown: waivers are added at its end.

    Raises:
        StaleDataError: It keeps no statement, or the file was changed.
    """
    version, stated = package.version, json.loads(package.read(f"{RECORDS}/{STATEMENT}"))
    # A manifest cannot hold its own hash.
    own = {name: text for name, text in version.tags.items() if name.startswith(OWN) and name != MANIFEST_TAG}
    for kind, shown in (("tag", own), ("metric", version.metrics)):
        registered = stated[f"{kind}s"]
        for name in sorted({*registered, *shown}):
            if name not in shown:
                yield f"{kind} {name} is gone"
            elif name not in registered:
                yield f"{kind} {name} was added"
            elif registered[name] != shown[name]:
                yield f"{kind} {name} is {shown[name]}, registered as {registered[name]}"
    card = package.read(f"{RECORDS}/{CARD}").decode().rstrip("\n")
    if not version.description.startswith(card):
        yield "the description does not begin with the card that was registered"
