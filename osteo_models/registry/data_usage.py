"""Whose images a version was trained and tested on, from the tables that it keeps itself."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, sort_stages
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.registry.checksums import read_manifest
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import open_package, read_part
from osteo_models.registry.records import SPLITS
from osteo_models.registry.tracking import Tracking
from osteo_models.training.job_data import Tables, select_rows
from osteo_models.training.outputs import read_job

MODEL: Final = "artifacts/model.json"
EVIDENCE: Final = "evidence"


@dataclass(frozen=True)
class Exposure:
    """What a version saw of each patient.

    Attributes:
        trained: Images that its weights were trained on, by patient.
        tested: Images that its metrics were computed on, by stage and patient; in cross-validation, networks of the
            same architecture were trained on them, too.
        holdout: Those of the hold-out among them, by patient.
        files: Where `tested` comes from, with SHA-256, by stage and protocol.
    """

    trained: Mapping[str, int]
    tested: Mapping[str, Mapping[str, int]]
    holdout: Mapping[str, int]
    files: Sequence[Mapping[str, str]]


def read_exposure(tracking: Tracking, version: VersionInfo) -> Exposure:
    """Whom the version's weights were trained on, and whom its metrics were computed on.

    Raises:
        StaleDataError: What it keeps cannot say it, or was changed.
        WeightsError: Something else registered the version.
        StoreError: The store cannot be used.
    """
    with open_package(tracking, version, MODEL, EVIDENCE) as folder:
        return _read_exposure(folder, version.uri)


def _read_exposure(folder: Path, where: str) -> Exposure:
    names = (f"{EVIDENCE}/splits/{name}" for name in SPLITS)
    splits, pairs = (read_frame(io.BytesIO(read_part(folder, name, where))) for name in names)
    tables = Tables(splits, pairs, np.empty((0, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8))
    job = read_job(json.loads(read_part(folder, MODEL, where)))
    rows = np.unique(np.concatenate([select_rows(job, fold, tables).train.ravel() for fold in range(job.folds)]))
    trained = Counter(tables.splits["patient_id"].iloc[rows])
    tested: dict[str, Counter[str]] = {}
    holdout = Counter[str]()
    files: list[dict[str, str]] = []
    for name, digest in read_manifest(folder).items():
        if name.startswith(f"{EVIDENCE}/") and name.endswith(".parquet"):
            frame = pd.read_parquet(folder / name)
            stage, protocol = str(frame["stage"].iloc[0]), str(frame["protocol"].iloc[0])
            files.append({"stage": stage, "protocol": protocol, "file": name, "sha256": digest})
            seen = frame.drop_duplicates("image_id")["patient_id"]
            tested[stage] = tested.get(stage, Counter()) | Counter(seen)
            if frame.attrs.get(VALIDATION) == "holdout":
                holdout |= Counter(seen)
    return Exposure(dict(trained), {stage: dict(tested[stage]) for stage in sort_stages(tested)}, dict(holdout), files)
