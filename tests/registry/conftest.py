"""One store for all tests of the registry, and networks small in number and quick to make."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    from mlflow.tracking._tracking_service import utils as service_utils

from osteo_models.core.settings import load_settings
from osteo_models.models import build
from osteo_models.registry.registration import register_version
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import VersionInfo
from osteo_models.training.checkpoint import save_weights
from tests.conftest import INTENSITY, ROOT
from tests.registry.small_project import SmallProject, make_project

PREPARE = {"crop_mm": [200, 120], "intensity": INTENSITY}
RECORD = {"origin.json": b'{"jobs": []}'}  # what every version says of the jobs behind its metrics
TAGS = {
    "git.commit": "1f3a",
    "git.tree": "5e7d" * 10,
    "dvc.data": "d" * 32 + ".dir",
    "profile": "quick",
    "synthetic": "true",
}

MakeJob = Callable[..., JobRun]
MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store without runs: migrated once, copied by whoever needs one."""
    folder = tmp_path_factory.mktemp("fresh")
    open_tracking(f"sqlite:///{folder / 'mlflow.db'}", folder)
    return Path(shutil.copy(folder / "mlflow.db", folder / "copy.db"))


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> Tracking:
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(fresh_store, folder / "mlflow.db")
    return open_tracking(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts")


@pytest.fixture(scope="session")
def keys() -> itertools.count[int]:
    return itertools.count(1)


@pytest.fixture
def make_job(keys: itertools.count[int]) -> MakeJob:
    """A job with a key of its own."""

    def make(**changes: Any) -> JobRun:
        given: dict[str, Any] = {
            "key": f"{next(keys):016x}",
            "stage": "stage-5",
            "name": "unimodal-mri-patient",
            "params": {"architecture": "unimodal", "epochs": 3},
            "tags": TAGS,
            "dataset_name": "lumbar-cohort",
            "dataset_digest": "d" * 32 + ".dir",
            "dataset_source": "data.dvc",
            "images": 2041,
        }
        return JobRun(**given | changes)

    return make


@pytest.fixture
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """A model folder as the experiments leave it."""

    def make(
        key: str = "0" * 16,
        *,
        architecture: str = "unimodal",
        images: str = "mri",
        spec: Mapping[str, Any] | None = None,
        seed: int = 1,
        **changes: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("model")
        save_weights(folder / "model.safetensors", build(architecture, seed=seed, **spec or {}), {})
        record = {"architecture": architecture, "spec": spec or {}, "images": images, "key": key}
        record |= {"recipe": {"epochs": 3, "precision": "float32"}, "prepare": PREPARE, "threshold": 0.5}
        (folder / "model.json").write_text(json.dumps(record | changes), encoding="utf-8")
        return folder

    return make


def fold_run(fold: int, epochs: int = 3) -> tuple[int, dict[str, Any], list[dict[str, float]]]:
    """Number, parameters and curves of a fold with a falling loss."""
    curves = [
        {
            "epoch": epoch,
            "train_loss": 0.7 / epoch,
            "test_loss": 0.8 / epoch,
            "test_balanced_accuracy": 1 - 0.5 / epoch,
            "seconds": 1.5,
        }
        for epoch in range(1, epochs + 1)
    ]
    return fold, {"device": "cpu"}, curves


def stage_metrics(
    stage: int = 1, value: float = 0.9, *, protocol: str = "patient", patients: float = 40
) -> dict[str, float]:
    """What evaluation says of one stage."""
    prefix = f"stage_{stage}.{protocol}"
    name = f"{prefix}.balanced_accuracy"
    interval = {name: value, f"{name}.ci_low": value - 0.05, f"{name}.ci_high": min(1.0, value + 0.04)}
    return interval | {f"{prefix}.n": 500.0, f"{prefix}.n_patients": float(patients)}


@pytest.fixture
def fold() -> Callable[..., tuple[int, dict[str, Any], list[dict[str, float]]]]:
    return fold_run


@pytest.fixture
def stage() -> Callable[..., dict[str, float]]:
    return stage_metrics


@pytest.fixture
def register(tracking: Tracking, make_job: MakeJob, make_model: MakeModel) -> Callable[..., VersionInfo]:
    """Register a network, of a job of its own unless given one."""

    def make(
        metrics: Mapping[str, float],
        *,
        folder: Path | None = None,
        job: JobRun | None = None,
        evidence: Sequence[Path] = (),
        **given: Any,
    ) -> VersionInfo:
        job = job or make_job()
        run_id = tracking.begin_job(job)
        return register_version(
            tracking,
            model_folder=folder or make_model(job.key, **given),
            metrics=metrics,
            tags=TAGS,
            evidence=evidence,
            files=RECORD,
            run_id=run_id,
        )

    return make


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> SmallProject:
    """A small project with one version; to be left as it is."""
    root = tmp_path_factory.mktemp("project")
    (root / ".osteo").mkdir()
    shutil.copy(fresh_store, root / "mlflow.db")
    tracking = open_tracking(f"sqlite:///{root / 'mlflow.db'}", root / ".osteo" / "mlartifacts")
    return make_project(root, yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")), tracking)


@pytest.fixture
def project(made_project: SmallProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    """A copy of it in another place, to be changed."""
    return copy_project(made_project, tmp_path / "project", monkeypatch)


def copy_project(made_project: SmallProject, root: Path, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    """A copy of a project."""
    # MLflow remembers in the process where the files of a run or model lie; the copy has the same ids elsewhere.
    monkeypatch.setattr(service_utils, "_artifact_repos_cache", OrderedDict())
    shutil.copytree(made_project.root, root)
    uri = f"sqlite:///{root / 'mlflow.db'}"
    settings = dataclasses.replace(load_settings(root), state=root / ".osteo", tracking_uri=uri, journal_uri=uri)
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    return dataclasses.replace(made_project, settings=settings, tracking=tracking)


@pytest.fixture(scope="module")
def one_thread():
    """Small batches gain nothing from more, and other work on the machine disturbs one thread least."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
