"""The evidence of a version, gathered once for the gate: from the store and from the files kept with the version."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
from mlflow.exceptions import MlflowException

from osteo_models.core.errors import InputError, StaleDataError, WeightsError
from osteo_models.core.files import hash_file
from osteo_models.core.terms import Protocol, Stage
from osteo_models.data.code_tree import find_code
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import SUFFIX, Predictions, read_predictions
from osteo_models.registry.checksums import MANIFEST, Damage, read_manifest
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import open_files, read_damage
from osteo_models.registry.records import find_changes
from osteo_models.registry.rules.comparison_rules import SHORTCUTS
from osteo_models.registry.rules.metric_rules import GROUPS
from osteo_models.registry.rules.provenance_rules import RECORD_OF_FILES, SPLITS
from osteo_models.registry.rules.results import Evidence, Rival, Row
from osteo_models.registry.runs import PARENT_TAG
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.network import RECORD, read_record

EVIDENCE: Final = "evidence"
PREDICTIONS: Final = "predictions"
TABLE_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    SHORTCUTS: frozenset({"predictor", "images", "validation", "metric", "value"}),
    GROUPS: frozenset(
        {"stage", "architecture", "images", "protocol", "by", "group", "metric", "value", "ci_high", "n_patients"}
    ),
}
SPLIT_COLUMNS: Final = frozenset(
    {"image_id", "patient_id", "modality", "holdout", "patient_test", "fold_image", "fold_patient"}
)


@dataclass(frozen=True)
class Kept:
    """What is kept with a version, read; what is not usable is named in `faults`, and the rules say so."""

    recorded: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[str] = ()
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
        OsteoError: Git cannot be used, or the store does not answer.
    """
    with tracking.reading():
        card = tracking.client.get_model_version(version.name, str(version.version)).description or ""
        job = _job_tags(tracking, version)
    return Evidence(
        metrics=version.metrics,
        tags=version.tags,
        job=job,
        card=card,
        recorded=kept.recorded,
        architecture=kept.architecture,
        images=kept.images,
        predictions=kept.predictions,
        threshold=kept.threshold,
        splits=kept.splits,
        splits_digest=kept.splits_digest,
        shortcuts=kept.tables.get(SHORTCUTS),
        groups=kept.tables.get(GROUPS),
        faults=kept.faults,
        changes=kept.changes or _find_changes(tracking, version, kept),
        code=find_code(root, version.tags) if root else None,
        rival=rival,
    )


def read_kept(tracking: Tracking, version: VersionInfo) -> Kept:
    """Read the files kept with a version; a version that something else registered keeps none of ours.

    Raises:
        StoreError: The store does not answer, or a file that it lists cannot be read.
    """
    if not version.model_id:
        return Kept()
    try:
        with open_files(tracking, version) as folder, tracking.reading():
            return _read_files(folder, read_damage(tracking, version, folder))
    except StaleDataError as error:  # MLflow lost the model, and with it the files
        return Kept(faults={RECORD_OF_FILES: error.found})


def _read_files(folder: Path, damage: Sequence[Damage]) -> Kept:
    faults = {RECORD_OF_FILES: str(damage[0])} if damage and damage[0].name == MANIFEST else {}
    evidence = folder / EVIDENCE
    splits, digest = _read_splits(evidence / SPLITS, faults)
    tables = {name: _read_table(evidence / name, name, faults) for name in TABLE_COLUMNS if (evidence / name).is_file()}
    predictions = _read_predictions(evidence, faults)
    threshold, architecture, images = None, "", ""
    try:
        record = read_record(folder / "artifacts" / RECORD)
        threshold, architecture, images = record.threshold, record.architecture, record.images
    except WeightsError as error:
        faults["threshold"] = error.found
    return Kept(
        recorded={} if RECORD_OF_FILES in faults else read_manifest(folder),
        changes=tuple(map(str, damage)),
        predictions=predictions,
        splits=splits,
        splits_digest=digest,
        tables={name: rows for name, rows in tables.items() if rows is not None},
        faults=faults,
        threshold=threshold,
        architecture=architecture,
        images=images,
    )


def _read_splits(path: Path, faults: dict[str, str]) -> tuple[pd.DataFrame | None, str]:
    if not path.is_file():
        return None, ""
    digest = hash_file(path, "md5")
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
                for column in ("value", "ci_high", "n_patients"):
                    float(row.get(column) or "nan")
        except (csv.Error, ValueError, KeyError) as error:
            faults[name] = f"cannot be read ({error})"
            return None
    if missing:
        faults[name] = f"without {', '.join(sorted(missing))}"
        return None
    return found


def _read_predictions(evidence: Path, faults: dict[str, str]) -> dict[tuple[Stage, Protocol], Predictions]:
    stages = sorted({path.parent for path in evidence.glob(f"*/*{SUFFIX}")})
    if not stages:
        return {}
    with tempfile.TemporaryDirectory() as place:
        for stage in stages:  # laid out as in the artifacts, where one function reads and checks them
            shutil.copytree(stage, Path(place) / PREDICTIONS / stage.name)
        try:
            return {(table.stage, table.protocol): table for table in read_predictions(Path(place))}
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
    """Tags of the run that trained the weights; none where the store no longer has it."""
    try:
        run = tracking.client.get_run(version.run_id)
        parent = run.data.tags.get(PARENT_TAG)
        return dict(tracking.client.get_run(parent).data.tags) if parent else {}
    except MlflowException as error:
        if not is_missing(error):
            raise
        return {}
