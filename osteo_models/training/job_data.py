"""The tables that jobs read and write: splits, pairs and prepared images in, predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from osteo_models.core.errors import StaleDataError
from osteo_models.core.terms import MODALITIES
from osteo_models.data.pairs import pair_images
from osteo_models.data.splits import check_splits
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.training.fold import Arrays, FoldRows, Rows
from osteo_models.training.identity import digest_images, digest_inputs, hash_images
from osteo_models.training.jobs import Job


@dataclass(frozen=True)
class Tables:
    """The tables that all jobs read; row i of `splits` is image i of the prepared array."""

    splits: pd.DataFrame
    pairs: pd.DataFrame
    images: npt.NDArray[np.uint8]

    def digest_images(self) -> str:
        """A hash of all images."""
        return digest_images(self._hashes)

    def digest_inputs(self, job: Job) -> dict[str, str]:
        """Hashes of what the folds of a job read; see `identity.digest_inputs`."""
        return digest_inputs(self._hashes, [select_rows(job, fold, self) for fold in range(job.folds)])

    @cached_property
    def _hashes(self) -> npt.NDArray[np.uint8]:
        return hash_images(as_arrays(self))


def load_tables(artifacts: Path) -> Tables:
    """Read splits, pairs and prepared images.

    Raises:
        StaleDataError: The splits were made from other images.
        SplitError: A split leaks.
    """
    folders = {"images.npy": "cohort", "images.csv": "cohort", "splits.csv": "splits", "pairs.csv": "splits"}
    paths = {name: artifacts / folder / name for name, folder in folders.items()}
    for path in paths.values():
        if not path.is_file():
            raise StaleDataError("file not found", where=str(path), remedy="make it with `dvc repro splits`")
    splits = read_frame(paths["splits.csv"])
    listed = read_frame(paths["images.csv"])["image_id"]
    images = np.load(paths["images.npy"], mmap_mode="r")
    if len(images) != len(splits) or not listed.equals(splits["image_id"]):
        raise StaleDataError("made from other images", where="splits.csv", remedy="run `dvc repro splits`")
    check_splits(splits)
    return Tables(splits, read_frame(paths["pairs.csv"]), images)


def select_rows(job: Job, fold: int, tables: Tables) -> FoldRows:
    """Which images a fold trains on and which it is tested on.

    The hold-out is trained on in no stage; the patient-based set not in the stages that test on it.
    """
    test = _test_mask(job, fold, tables.splits)
    if job.images == "multimodal":
        return _select_pairs(job, fold, tables, test)
    of_set = tables.splits["modality"].isin(job.modalities)
    train = (tables.splits["holdout"] == 0) & ~test
    return FoldRows(np.flatnonzero(train & of_set), np.flatnonzero(test & of_set))


def _test_mask(job: Job, fold: int, splits: pd.DataFrame) -> pd.Series:
    if job.validation == "folds":
        return (splits[f"fold_{job.protocol}"] == fold).fillna(False).astype(bool)
    return splits[job.validation] == 1


def _select_pairs(job: Job, fold: int, tables: Tables, test: pd.Series) -> FoldRows:
    split = {"folds": job.protocol, "holdout": "development", "patient_test": "patient_rest"}[job.validation]
    pairs = tables.pairs[tables.pairs["split"] == split]
    rows = pd.Series(np.arange(len(tables.splits)), index=tables.splits["image_id"])

    def as_rows(table: pd.DataFrame) -> Rows:
        return np.stack([rows.loc[table[f"{name}_image_id"]].to_numpy() for name in job.modalities], axis=1)

    if job.validation == "folds":
        train, tested = as_rows(pairs[pairs["fold"] != fold]), as_rows(pairs[pairs["fold"] == fold])
    else:
        train, tested = as_rows(pairs), as_rows(pair_images(tables.splits[test], job.seed))
    if job.spec.get("fusion", "loss") == "feature":
        return FoldRows(train, tested)
    # Each tower scores by itself: cross-validation tests the paired images (as in the paper), the test sets all.
    if job.validation == "folds":
        return FoldRows(train, np.sort(tested.ravel()))
    return FoldRows(train, np.flatnonzero(test & tables.splits["modality"].isin(job.modalities)))


def make_predictions(
    job: Job, scores: Sequence[tuple[int, Rows, npt.NDArray[np.float32]]], tables: Tables
) -> pd.DataFrame:
    """The predictions table of a job.

    Args:
        job: The job.
        scores: (fold, test rows, scores of the same shape) for each fold.
        tables: As trained on.

    Returns:
        stage, architecture, images, protocol, fold, image_id, patient_id, modality, target, score; the job's validation
        is in its `attrs`, which parquet keeps.
    """
    parts: list[pd.DataFrame] = []
    for fold, rows, score in scores:
        part = tables.splits.loc[rows.ravel(), ["image_id", "patient_id", "modality", "target"]]
        parts.append(part.assign(fold=fold, score=score.ravel().astype(np.float64)))
    table = pd.concat(parts, ignore_index=True)
    for position, (name, value) in enumerate(
        [("stage", job.stage), ("architecture", job.architecture), ("images", job.images), ("protocol", job.protocol)]
    ):
        table.insert(position, name, value)
    table.attrs[VALIDATION] = job.validation
    return table[[*table.columns[:4], "fold", "image_id", "patient_id", "modality", "target", "score"]]


def as_arrays(tables: Tables) -> Arrays:
    """What the workers need of the tables."""
    target = tables.splits["target"].to_numpy(np.int64)
    return Arrays(
        np.ascontiguousarray(tables.images),
        target,
        tables.splits["modality"].map(list(MODALITIES).index).to_numpy(np.int64),
    )
