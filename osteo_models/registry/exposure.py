"""Whose images a version was trained and tested on, from the tables that it keeps itself."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from osteo_models.data.frames import read_frame
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import read_kept, read_listing
from osteo_models.registry.origin import SPLITS
from osteo_models.registry.tracking import Tracking
from osteo_models.terms import IMAGE_COLUMNS, IMAGE_ROWS, sort_stages
from osteo_models.training.outputs import read_job
from osteo_models.training.tables import Tables, select_rows

MODEL: Final = "artifacts/model.json"


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


def read_tables(tracking: Tracking, version: VersionInfo) -> Tables:
    """The split tables that a version keeps, without images.

    Raises:
        StaleDataError: It keeps none, or they were changed.
    """
    with tempfile.TemporaryDirectory() as folder:
        frames: list[pd.DataFrame] = []
        for name in SPLITS:
            path = Path(folder) / name
            path.write_bytes(read_kept(tracking, version, f"evidence/splits/{name}"))
            frames.append(read_frame(path))
    splits, pairs = frames
    return Tables(splits, pairs, np.empty((0, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8), {})


def read_exposure(tracking: Tracking, version: VersionInfo) -> Exposure:
    """Whom the version's weights were trained on, and whom its metrics were computed on.

    Raises:
        StaleDataError: What it keeps cannot say it, or was changed.
    """
    tables, job = read_tables(tracking, version), read_job(json.loads(read_kept(tracking, version, MODEL)))
    rows = np.unique(np.concatenate([select_rows(job, fold, tables).train.ravel() for fold in range(job.folds)]))
    trained = Counter(tables.splits["patient_id"].iloc[rows])
    tested: dict[str, Counter[str]] = {}
    holdout = Counter[str]()
    files: list[dict[str, str]] = []
    for name, digest in read_listing(tracking, version).items():
        if name.startswith("evidence/") and name.endswith(".parquet"):
            frame = pd.read_parquet(io.BytesIO(read_kept(tracking, version, name)))
            stage, protocol = str(frame["stage"].iloc[0]), str(frame["protocol"].iloc[0])
            files.append({"stage": stage, "protocol": protocol, "file": name, "sha256": digest})
            seen = frame.drop_duplicates("image_id")["patient_id"]
            tested[stage] = tested.get(stage, Counter()) | Counter(seen)
            if frame.attrs.get(VALIDATION) == "holdout":
                holdout |= Counter(seen)
    return Exposure(dict(trained), {stage: dict(tested[stage]) for stage in sort_stages(tested)}, dict(holdout), files)
