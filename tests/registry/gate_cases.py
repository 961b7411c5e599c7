"""A sound version for the gate, made of files as the project leaves them, and what can be broken of it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from osteo_models.core.settings import Settings, load_settings
from osteo_models.core.terms import metric_prefix
from osteo_models.data.code_tree import CodeSearch
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.paired import PairedScores
from osteo_models.evaluation.predictions import Predictions
from osteo_models.registry.registration import register_version
from osteo_models.registry.rules import ChampionComparison, Evidence
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from tests.conftest import STAGES

NAME = "osteo-unimodal-mri"
DATA = "d" * 32 + ".dir"
CODE, TREE = "profile: quick\n", "dbc35f7db8fa8c2a06c9f628ed0fcc36e478fa6a"  # params.yaml, and the git tree of it alone
PATIENTS = 80  # in the folds; six more of each class are held out
FOLDS = 5
IMAGES = 2
DAMAGE = Callable[[Tracking, VersionInfo], None]


@dataclass
class Case:
    """Everything that a version is registered with; a test breaks one thing of it."""

    splits: pd.DataFrame
    predictions: dict[str, pd.DataFrame]
    groups: pd.DataFrame | None
    shortcuts: pd.DataFrame | None
    metrics: dict[str, float | None] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    job: dict[str, str] = field(default_factory=dict)
    damage: DAMAGE | None = None


def make_repository(root: Path) -> Settings:
    """A git repository with a commit of CODE."""
    root.mkdir()
    (root / "params.yaml").write_text(CODE)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "code"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return load_settings(root)


def make_splits(patients: int = PATIENTS, prefix: str = "p", held: int = 12) -> pd.DataFrame:
    """Patients of both classes in five folds, and `held` more in the hold-out."""
    rows: list[dict[str, Any]] = []
    for number in range(patients + held):
        kept_out = number >= patients
        fold = None if kept_out else number % FOLDS
        for image in range(IMAGES):
            name = f"{prefix}{number:03d}"
            rows.append(
                {"image_id": f"{name}-mri-{image:03d}", "patient_id": name, "modality": "mri"}
                | {"target": number % 2 if kept_out else (number // FOLDS + number) % 2, "age_years": 40, "sex": "F"}
                | {"holdout": int(kept_out), "patient_test": 0, "fold_image": fold, "fold_patient": fold}
            )
    return pd.DataFrame(rows).astype({"fold_image": "Int64", "fold_patient": "Int64"})


def make_predictions(splits: pd.DataFrame, stage: str, *, signal: float = 1.0, seed: int = 1) -> pd.DataFrame:
    """Scores of the images that a stage tests."""
    held = stage == "stage-5"
    table = splits[splits["holdout"] == int(held)]
    rng = np.random.default_rng([seed, held])
    noise = dict(zip(table["patient_id"].unique(), rng.normal(0, 0.22, 999), strict=False))
    wanted = (table["target"] - 0.5) * signal * 0.6 + table["patient_id"].map(noise) + rng.normal(0, 0.03, len(table))
    head = {"stage": stage, "architecture": "unimodal", "images": "mri", "protocol": "patient"}
    columns = table[["image_id", "patient_id", "modality", "target"]].assign(
        score=(0.5 + wanted).clip(0, 1), fold=0 if held else table["fold_patient"].astype(int), **head
    )
    return columns.reset_index(drop=True)


def make_case(splits: pd.DataFrame | None = None, *, signal: float = 1.0, seed: int = 1) -> Case:
    """A sound version."""
    splits = make_splits() if splits is None else splits
    stages = ("stage-1", "stage-5")
    predictions = {stage: make_predictions(splits, stage, signal=signal, seed=seed) for stage in stages}
    predictions["stage-5"] = make_predictions(splits, "stage-5", signal=2.0, seed=seed)
    return Case(splits, predictions, make_groups(), make_shortcuts())


def make_groups(worst: float = 0.7, note: str = "") -> pd.DataFrame:
    """Accuracy by sex with intervals of 40 patients each, and a scanner with too few patients."""
    head = {"stage": "stage-1", "architecture": "unimodal", "images": "mri", "protocol": "patient"}
    rows = [
        {"by": "sex", "group": "F", "value": 0.9, "ci_high": 0.96, "n_patients": 40, "note": ""},
        {"by": "sex", "group": "M", "value": worst, "ci_high": worst + 0.1, "n_patients": 40, "note": note},
        {"by": "scanner", "group": "A", "n_patients": 7, "note": "too few: 7 patients, 10 wanted"},
    ]
    return pd.DataFrame([head | row | {"metric": "accuracy"} for row in rows])


def make_shortcuts(age: float | None = 0.5) -> pd.DataFrame:
    """Age alone on the hold-out."""
    head = {"predictor": "age", "kind": "shortcut", "images": "mri", "validation": "holdout"}
    return pd.DataFrame([head | {"metric": "balanced_accuracy", "value": age, "note": ""}])


def sound_metrics(case: Case) -> dict[str, float]:
    """What evaluation says of the predictions."""
    found: dict[str, float] = {}
    for stage, table in case.predictions.items():
        summary = summarize(table["target"], table["score"], patient_id=table["patient_id"])
        found |= summary.flatten(metric_prefix(stage, "patient"))
    return found


def make_evidence(case: Case | None = None, **changes: Any) -> Evidence:
    """The evidence of a version, as the gate gathers it from the store."""
    case = case or make_case()
    tables = {(table["stage"][0], "patient"): as_predictions(table) for table in case.predictions.values()}
    digest = "a" * 32
    tags = {"osteo.weights": "b" * 64, "osteo.job": "c" * 16, "git.commit": "1f3a" * 10, "git.tree": TREE}
    tags |= {"dvc.data": DATA, "dvc.splits": digest, "profile": "paper", "synthetic": "true"}
    lines = [*(f"`{text}`" for text in tags.values()), *(f"| {stage} | patient |" for stage in case.predictions)]
    given: dict[str, Any] = {
        "metrics": sound_metrics(case),
        "tags": tags,
        "job": {"osteo.job": "c" * 16},
        "card": "\n".join(["Synthetic cohort", *lines, "No medical device"]),
        "recorded": {"splits/splits.csv": "0" * 64},
        "architecture": "unimodal",
        "images": "mri",
        "predictions": tables,
        "threshold": 0.5,
        "splits": case.splits,
        "splits_digest": digest,
        "code": CodeSearch("1f3a" * 10),
        "shortcuts": as_rows(make_shortcuts()),
        "groups": as_rows(make_groups()),
    }
    return Evidence(**given | changes)


def as_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """A table as it comes out of its file."""
    return [
        {name: "" if pd.isna(value) else str(value) for name, value in row.items()} for row in table.to_dict("records")
    ]


def as_predictions(table: pd.DataFrame) -> Predictions:
    """A table as evaluation reads it."""
    columns = {name: table[name].to_numpy() for name in ("fold", "target", "score")}
    columns |= {name: table[name].to_numpy(str) for name in ("image_id", "patient_id", "modality")}
    return Predictions(
        stage=table["stage"][0],
        architecture="unimodal",
        images="mri",
        protocol="patient",
        validation=STAGES.find(table["stage"][0]).validation,
        source="",
        **columns,
    )


def make_comparison(case: Case, other: Case, *, stage: str = "stage-1", **changes: Any) -> ChampionComparison:
    """A champion beside a version, on the same images."""
    a, b = (as_predictions(each.predictions[stage]) for each in (case, other))
    scores = PairedScores(a.target, a.patient_id, a.score, b.score)
    return ChampionComparison(**{"version": 1, "scores": {stage: scores}, "images": {stage: a.target.size}} | changes)


def write_files(case: Case, folder: Path) -> list[Path]:
    """The files of evidence, in the folders that the project has them in."""
    paths = [folder / "splits" / "splits.csv"]
    paths[0].parent.mkdir(parents=True)
    case.splits.to_csv(paths[0], index=False)
    for stage, table in case.predictions.items():
        paths.append(folder / "predictions" / stage / "unimodal-mri-patient.parquet")
        paths[-1].parent.mkdir(parents=True)
        table.attrs["validation"] = STAGES.find(stage).validation
        table.to_parquet(paths[-1], index=False)
    for name, table in (("groups", case.groups), ("shortcuts", case.shortcuts)):
        if table is not None:
            paths.append(folder / "evaluation" / f"{name}.csv")
            paths[-1].parent.mkdir(exist_ok=True)
            table.to_csv(paths[-1], index=False)
    return paths


def register_case(
    tracking: Tracking, case: Case, folder: Path, make_job: Callable[..., JobRun], model: Callable[..., Path]
) -> VersionInfo:
    """Register a version as the project does, and damage it where the case says how."""
    paths = write_files(case, folder)
    splits = hashlib.md5(paths[0].read_bytes()).hexdigest()
    pins = {"dvc.data": DATA, "dvc.splits": splits, "git.commit": "1f3a" * 10, "git.tree": TREE}
    pins |= {"profile": "paper", "synthetic": "true"}
    job = make_job(tags={**pins, **case.job})
    metrics = {name: value for name, value in {**sound_metrics(case), **case.metrics}.items() if value is not None}
    version = register_version(
        tracking,
        model_folder=model(job.key, seed=int(job.key, 16)),
        metrics=metrics,
        tags={name: text for name, text in {**pins, **case.tags}.items() if text is not None},
        evidence=without(paths, case),
        files={"origin.json": b'{"jobs": []}'},
        run_id=tracking.begin_job(job),
    )
    if case.damage:
        case.damage(tracking, version)
    return version


def without(paths: Iterable[Path], case: Case) -> list[Path]:
    """An empty table of splits stands for none."""
    return [path for path in paths if path.name != "splits.csv" or len(case.splits)]


def files_of(tracking: Tracking, version: VersionInfo) -> Path:
    """Where the files of a version lie."""
    place = tracking.client.get_logged_model(version.model_id).artifact_location
    return Path(place.removeprefix("file://"))


def change_card(change: Callable[[str, Mapping[str, str]], str]) -> DAMAGE:
    """Rewrite a version's description."""

    def damage(tracking: Tracking, version: VersionInfo) -> None:
        card = tracking.client.get_model_version(version.name, str(version.version)).description
        tracking.client.update_model_version(version.name, str(version.version), change(card, version.tags))

    return damage
