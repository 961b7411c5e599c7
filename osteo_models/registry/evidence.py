"""The evidence of a version, gathered once for the gate: from the store and from the files kept with the version."""

from __future__ import annotations

import csv
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
from mlflow import artifacts as mlflow_artifacts
from mlflow.exceptions import MlflowException

from osteo_models.data.code_tree import find_code
from osteo_models.data.frames import read_frame
from osteo_models.errors import InputError, StaleDataError, WeightsError
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import MANIFEST, MANIFEST_TAG, read_manifest
from osteo_models.registry.network import RECORD, hash_file, read_record
from osteo_models.registry.rules.comparison import SHORTCUTS
from osteo_models.registry.rules.evidence import Evidence, Rival, Row
from osteo_models.registry.rules.provenance import RECORD_OF_FILES
from osteo_models.registry.rules.splits import SPLITS
from osteo_models.registry.rules.thresholds import GROUPS
from osteo_models.registry.runs import PARENT_TAG
from osteo_models.registry.statement import find_changes
from osteo_models.registry.tracking import Tracking
from osteo_models.terms import STAGES, Protocol, Stage

EVIDENCE: Final = "evidence"
PREDICTIONS: Final = "predictions"
TABLE_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    SHORTCUTS: frozenset({"predictor", "images", "validation", "metric", "value"}),
    GROUPS: frozenset({"stage", "architecture", "images", "protocol", "by", "group", "metric", "value"}),
}
SPLIT_COLUMNS: Final = frozenset(
    {"image_id", "patient_id", "modality", "holdout", "patient_test", "fold_image", "fold_patient"}
)


@dataclass(frozen=True)
class Kept:
    """What is kept with a version, read; what cannot be read is named in `faults`, and the rules say so."""

    recorded: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)
    predictions: Mapping[tuple[Stage, Protocol], Predictions] = field(default_factory=dict)
    splits: pd.DataFrame | None = None
    splits_digest: str = ""
    tables: Mapping[str, list[Row]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None
    architecture: str = ""
    images: str = ""


def gather_evidence(
    tracking: Tracking, version: VersionInfo, kept: Kept, rival: Rival | None = None, root: Path | None = None
) -> Evidence:
    """Everything that the rules look at.

    Args:
        tracking: The store.
        version: The version to judge.
        kept: Its files, from `read_kept`.
        rival: The champion beside it.
        root: The project's folder, whose repository may hold the version's code.

    Raises:
        OsteoError: Git, or the store, cannot be used.
    """
    with tracking.reading():
        card = tracking.client.get_model_version(version.name, str(version.version)).description or ""
    return Evidence(
        metrics=version.metrics,
        tags=version.tags,
        job=_job_tags(tracking, version),
        card=card,
        recorded=kept.recorded,
        found=kept.found,
        architecture=kept.architecture,
        images=kept.images,
        predictions=kept.predictions,
        threshold=kept.threshold,
        splits=kept.splits,
        splits_digest=kept.splits_digest,
        shortcuts=kept.tables.get(SHORTCUTS),
        groups=kept.tables.get(GROUPS),
        faults=kept.faults,
        changes=_find_changes(tracking, version, kept),
        code=find_code(root, version.tags) if root else None,
        rival=rival,
    )


def read_kept(tracking: Tracking, version: VersionInfo) -> Kept:
    """Read the files kept with a version; a version that something else registered keeps none of ours."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        faults: dict[str, str] = {}
        for name in (EVIDENCE, MANIFEST, f"artifacts/{RECORD}"):
            _download(tracking, version, name, folder)
        recorded = _read_recorded(folder, version, faults)
        evidence = folder / EVIDENCE
        paths = [path for path in sorted(evidence.rglob("*")) if path.is_file()]
        found = {path.relative_to(evidence).as_posix(): hash_file(path) for path in paths}
        splits, digest = _read_splits(evidence / SPLITS, faults)
        tables = {name: _read_table(evidence / name, name, faults) for name in TABLE_COLUMNS if name in found}
        predictions = _read_predictions(evidence, folder, faults)
        threshold, architecture, images = None, "", ""
        try:
            record = read_record(folder / RECORD)
            threshold, architecture, images = record.threshold, record.architecture, record.images
        except WeightsError as error:
            faults["threshold"] = error.found
    return Kept(
        recorded=recorded,
        found=found,
        predictions=predictions,
        splits=splits,
        splits_digest=digest,
        tables={name: rows for name, rows in tables.items() if rows is not None},
        faults=faults,
        threshold=threshold,
        architecture=architecture,
        images=images,
    )


def _download(tracking: Tracking, version: VersionInfo, name: str, folder: Path) -> None:
    """Fetch a file or folder of a version, if there is one."""
    if not version.model_id:
        return
    try:
        place = tracking.client.get_logged_model(version.model_id).artifact_location
        mlflow_artifacts.download_artifacts(
            artifact_uri=f"{place}/{name}", dst_path=str(folder), tracking_uri=tracking.uri
        )
    except (MlflowException, OSError):  # what is not there is missing evidence, which the rules tell
        return


def _read_recorded(folder: Path, version: VersionInfo, faults: dict[str, str]) -> dict[str, str]:
    """SHA-256 of the files of evidence as registered, by their names below `evidence/`; none where it is not known."""
    path, digest = folder / MANIFEST, version.tags.get(MANIFEST_TAG, "")
    if not path.is_file() and not digest:  # something else registered it
        return {}
    try:
        whole = read_manifest(path, digest, version.uri)
    except StaleDataError as error:
        faults[RECORD_OF_FILES] = error.found
        return {}
    head = f"{EVIDENCE}/"
    return {name.removeprefix(head): digest for name, digest in whole.items() if name.startswith(head)}


def _read_splits(path: Path, faults: dict[str, str]) -> tuple[pd.DataFrame | None, str]:
    if not path.is_file():
        return None, ""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    try:
        table = read_frame(path)
    except (ValueError, KeyError) as error:
        faults[SPLITS] = f"cannot be read ({str(error).splitlines()[0]})"
        return None, digest
    if missing := SPLIT_COLUMNS - set(table.columns):
        faults[SPLITS] = f"without {', '.join(sorted(missing))}"
        return None, digest
    return table, digest


def _read_table(path: Path, name: str, faults: dict[str, str]) -> list[Row] | None:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = csv.DictReader(file)
            missing = TABLE_COLUMNS[name] - set(rows.fieldnames or ())
            found = list[Row](rows)
            for row in found:
                float(row["value"] or "nan")
        except (csv.Error, ValueError, KeyError) as error:
            faults[name] = f"cannot be read ({error})"
            return None
    if missing:
        faults[name] = f"without {', '.join(sorted(missing))}"
        return None
    return found


def _read_predictions(
    evidence: Path, folder: Path, faults: dict[str, str]
) -> dict[tuple[Stage, Protocol], Predictions]:
    for stage in STAGES:  # laid out as in the artifacts, where one function reads and checks them
        if (evidence / stage).is_dir():
            shutil.move(evidence / stage, folder / PREDICTIONS / stage)
    if not (folder / PREDICTIONS).is_dir():
        return {}
    try:
        return {(table.stage, table.protocol): table for table in read_predictions(folder)}
    except InputError as error:
        faults[PREDICTIONS] = error.found
        return {}


def _find_changes(tracking: Tracking, version: VersionInfo, kept: Kept) -> list[str]:
    if not kept.recorded:  # which a rule says
        return []
    try:
        return list(find_changes(tracking, version))
    except StaleDataError as error:
        return [error.found]


def _job_tags(tracking: Tracking, version: VersionInfo) -> dict[str, str]:
    """Tags of the run that trained the weights; none where it is gone."""
    try:
        run = tracking.client.get_run(version.run_id)
        return dict(tracking.client.get_run(run.data.tags[PARENT_TAG]).data.tags)
    except (MlflowException, KeyError):
        return {}
