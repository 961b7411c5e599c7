"""Jobs: what is trained, on which rows, and the key under which a finished one is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from osteo_models.data.splits import check_splits, pair_images
from osteo_models.errors import StaleDataError
from osteo_models.models import find_entry
from osteo_models.params import Params
from osteo_models.terms import ImageSet, Modality, Protocol, Stage, Validation, job_name, modalities_of
from osteo_models.training.recipe import Recipe

Rows = npt.NDArray[np.int64]
KEY_LENGTH = 16
CODE_OF_RESULTS = ("models", "training/fit.py", "training/recipe.py", "training/jobs.py", "data/splits.py")


@dataclass(frozen=True)
class Job:
    """One architecture on one image set in one stage under one protocol: a Ray Tune job whose trials are its folds.

    Attributes:
        spec: Settings of the architecture.
        recipe: With the precision already resolved.
        folds: Number of trials.
        digests: MD5 of every input file, by name.
    """

    stage: Stage
    architecture: str
    images: ImageSet
    protocol: Protocol
    validation: Validation
    spec: Mapping[str, Any]
    recipe: Recipe
    seed: int
    folds: int
    digests: Mapping[str, str] = field(repr=False)
    code: str = field(repr=False)

    @property
    def name(self) -> str:
        """Run name and file stem, such as `unimodal-mri-patient`."""
        return job_name(self.architecture, self.images, self.protocol)

    @property
    def key(self) -> str:
        """Hash of everything that decides the result; the same key means the same result."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def fold_seed(self, fold: int) -> int:
        """The seed of a fold's initial weights and batch order."""
        return int(np.random.SeedSequence((self.seed, fold)).generate_state(1)[0])


@dataclass(frozen=True)
class Tables:
    """The tables that all jobs read; row i of `splits` is image i of the prepared array."""

    splits: pd.DataFrame
    pairs: pd.DataFrame
    images: npt.NDArray[np.uint8]
    digests: Mapping[str, str]


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
    splits = pd.read_csv(paths["splits.csv"], dtype={"fold_image": "Int64", "fold_patient": "Int64"})
    listed = pd.read_csv(paths["images.csv"], usecols=["image_id"])["image_id"]
    images = np.load(paths["images.npy"], mmap_mode="r")
    if len(images) != len(splits) or not listed.equals(splits["image_id"]):
        raise StaleDataError("made from other images", where="splits.csv", remedy="run `dvc repro splits`")
    check_splits(splits)
    digests = {name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for name, path in paths.items()}
    return Tables(splits, pd.read_csv(paths["pairs.csv"]), images, digests)


def plan_jobs(params: Params, digests: Mapping[str, str], recipe: Recipe) -> list[Job]:
    """Every job of the profile in force, the longest first so that the workers end together.

    Args:
        params: params.yaml.
        digests: From `load_tables`.
        recipe: With the precision resolved for the workers.

    Raises:
        InputError: An architecture is not in the catalogue.
    """
    code = hash_code()
    jobs = [
        Job(
            stage=stage,
            architecture=architecture,
            images=images,
            protocol=protocol,
            validation=item.validation,
            spec=dict(params.architectures[architecture]),
            recipe=recipe,
            seed=params.experiments.seed,
            folds=params.splits.folds if item.validation == "folds" else 1,
            digests=digests,
            code=code,
        )
        for stage, item in params.stages.items()
        for architecture in item.architectures
        for images in item.images
        if images in find_entry(architecture).image_sets
        for protocol in params.protocols(stage, architecture)
    ]
    return sorted(jobs, key=lambda job: (-job.folds * len(modalities_of(job.images)), job.stage, job.name))


def describe_left_out(params: Params) -> list[str]:
    """What the profile in force leaves out of the paper's protocol, in sentences; empty for the whole protocol."""
    profile, paper = params.active_profile, params.profiles.get("paper", params.active_profile)
    left_out: list[str] = []
    if profile.epochs < paper.epochs:
        left_out.append(f"{profile.epochs} epochs instead of {paper.epochs}")
    without = [name for name in paper.image_protocol if name not in profile.image_protocol]
    if without:
        left_out.append(f"the image protocol of {', '.join(without)}")
    return left_out


def hash_code() -> str:
    """Hash of the source that decides results: models and training."""
    package = Path(__file__).parents[1]
    sources: list[Path] = []
    for name in CODE_OF_RESULTS:
        path = package / name
        sources += sorted(path.glob("*.py")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.relative_to(package).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class FoldRows:
    """The rows of one trial.

    Shapes:
        train: (n,) rows, or (n, 2) pairs of MRI row and CT row for the multimodal network.
        test: (m,) rows, or (m, 2) pairs where the network needs both modalities at once.
    """

    train: Rows
    test: Rows


def select_rows(job: Job, fold: int, tables: Tables) -> FoldRows:
    """Which images a fold trains on and which it is tested on.

    The hold-out is trained on in no stage; the patient-based set not in stage 6.
    """
    test = _test_mask(job, fold, tables.splits)
    if job.images == "multimodal":
        return _select_pairs(job, fold, tables, test)
    of_set = tables.splits["modality"].isin(modalities_of(job.images))
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
        return np.stack([rows.loc[table[f"{name}_image_id"]].to_numpy() for name in ("mri", "ct")], axis=1)

    if job.validation == "folds":
        train, tested = as_rows(pairs[pairs["fold"] != fold]), as_rows(pairs[pairs["fold"] == fold])
    else:
        train, tested = as_rows(pairs), as_rows(pair_images(tables.splits[test], job.seed))
    if job.spec.get("fusion", "loss") == "feature":
        return FoldRows(train, tested)
    # Each tower scores by itself: cross-validation tests the paired images (as in the paper), the test sets all.
    return FoldRows(train, np.sort(tested.ravel()) if job.validation == "folds" else np.flatnonzero(test))


def make_predictions(
    job: Job, scores: Sequence[tuple[int, Rows, npt.NDArray[np.float32]]], tables: Tables
) -> pd.DataFrame:
    """The predictions table of a job.

    Args:
        job: The job.
        scores: (fold, test rows, scores) for each fold; pairs give their score to both images.
        tables: As trained on.

    Returns:
        stage, architecture, images, protocol, fold, image_id, patient_id, modality, target, score.
    """
    parts: list[pd.DataFrame] = []
    for fold, rows, score in scores:
        columns = rows.shape[1] if rows.ndim == 2 else 1
        part = tables.splits.loc[rows.ravel(), ["image_id", "patient_id", "modality", "target"]]
        parts.append(part.assign(fold=fold, score=np.repeat(score, columns).astype(np.float64)))
    table = pd.concat(parts, ignore_index=True)
    for position, (name, value) in enumerate(
        [("stage", job.stage), ("architecture", job.architecture), ("images", job.images), ("protocol", job.protocol)]
    ):
        table.insert(position, name, value)
    return table[[*table.columns[:4], "fold", "image_id", "patient_id", "modality", "target", "score"]]


def modality_flags(tables: Tables) -> npt.NDArray[np.bool_]:
    """Whether each image is CT."""
    ct: Modality = "ct"
    return (tables.splits["modality"] == ct).to_numpy()
