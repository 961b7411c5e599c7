"""The pages that `osteo report` writes: the report of this project, and two versions side by side."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from osteo_models.core.errors import TableError
from osteo_models.core.params import Params
from osteo_models.core.settings import Settings
from osteo_models.core.terms import model_name
from osteo_models.data.code_tree import read_code
from osteo_models.data.revisions import read_data_digest
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.registry.gate_evidence import PREDICTIONS, read_stored_evidence
from osteo_models.registry.runs import is_synthetic
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import VersionInfo, get_version, list_versions
from osteo_models.report.build import build_report
from osteo_models.report.version_comparison import Side, write_comparison
from osteo_models.training.jobs import describe_left_out

PACKAGES: Final = ("osteo-models", "torch", "ray", "mlflow", "prefect", "dvc", "pydicom", "scikit-learn")
SETTINGS: Final = ("architecture", "images", "precision")


def find_page(settings: Settings) -> Path:
    """Path of the report of this project."""
    return settings.artifacts / "report" / "index.html"


def write_report(params: Params, settings: Settings) -> Path:
    """Write the report from the files in artifacts/.

    Raises:
        InputError: Nothing was evaluated yet, or a file cannot be read.
        StoreError: The tracking store cannot be used.
    """
    provenance = {
        **read_code(settings.root),
        "data (DVC md5)": read_data_digest(settings.root, params.data.path) or "not under DVC",
        "profile": params.profile,
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
    return build_report(
        settings.artifacts,
        find_page(settings),
        params.stage_table,
        provenance=provenance,
        params=params.model_dump(mode="json"),
        synthetic=params.data.synthetic is not None,
        left_out=describe_left_out(params),
        versions=_read_versions(settings),
    )


def _read_versions(settings: Settings) -> list[dict[str, Any]] | None:
    """The versions of register.json with their current aliases, which a later promotion moves."""
    path = settings.artifacts / "register.json"
    if not path.is_file():
        return None
    entries = json.loads(path.read_text(encoding="utf-8"))
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    aliases = {(version.name, version.version): ", ".join(version.aliases) for version in list_versions(tracking)}
    return [entry | {"alias": aliases.get((entry["name"], entry["version"]), "")} for entry in entries]


def read_sides(settings: Settings, first: str, second: str) -> tuple[Side, Side]:
    """Read two registered versions for a comparison: metrics, origin, and scores of images they were not trained on.

    Args:
        settings: Location of the store and of the artifacts.
        first: `NAME@alias`, `NAME/3`, or `NAME` for the newest.
        second: The same.

    Raises:
        InputError: There is no such version; the message lists those that exist.
        StoreError: The tracking store cannot be used.
    """
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    versions = [get_version(tracking, reference) for reference in (first, second)]
    a, b = (_read_side(tracking, settings, version) for version in versions)
    return a, b


def write_sides(sides: tuple[Side, Side], params: Params, settings: Settings, out: Path | None = None) -> Path:
    """Write the page of a comparison, by default in artifacts/comparisons/: DVC owns artifacts/report/."""
    stem = "-and-".join(f"{side.name}-{side.version}" for side in sides)
    return write_comparison(
        out or settings.artifacts / "comparisons" / f"{stem}.html",
        *sides,
        stages=params.stage_table,
        threshold=params.evaluate.threshold,
        synthetic=any(is_synthetic(side.tags) for side in sides),
    )


def _read_side(tracking: Tracking, settings: Settings, info: VersionInfo) -> Side:
    with tracking.reading():
        logged = tracking.client.get_run(info.run_id).data.params if info.run_id else {}
    shown = {name: str(value) for name, value in logged.items() if name in SETTINGS or name.startswith("spec.")}
    stored = read_stored_evidence(tracking, info)
    if fault := stored.faults.get(PREDICTIONS):
        raise TableError(fault, where=info.uri, remedy="`osteo verify` says which files of the version were changed")
    predictions = list(stored.predictions.values()) or _read_present(settings, info)
    return Side(info.name, info.version, info.aliases, info.metrics, info.tags, shown, predictions)


def _read_present(settings: Settings, info: VersionInfo) -> list[Predictions]:
    """Predictions of artifacts/, if this version was made by their jobs."""
    jobs = settings.artifacts / "jobs.json"
    keys = {job["key"] for job in json.loads(jobs.read_text(encoding="utf-8"))} if jobs.is_file() else set()
    if info.job not in keys:
        return []
    return [
        job for job in read_predictions(settings.artifacts) if model_name(job.architecture, job.images) == info.name
    ]
