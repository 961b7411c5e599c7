"""A project in a folder: data under DVC and git, splits, one network trained for an epoch, its metrics, its version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from osteo_models.core.params import Params, parse_params
from osteo_models.core.settings import Settings, load_settings
from osteo_models.data.code_tree import read_code
from osteo_models.data.pairs import make_pairs
from osteo_models.data.revisions import read_data_digest
from osteo_models.data.splits import make_splits
from osteo_models.registry.records import collect_files, list_splits
from osteo_models.registry.registration import register_version
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from osteo_models.serving.model_record import read_record
from osteo_models.training.job_data import Tables, as_arrays, load_tables, make_predictions, select_rows
from osteo_models.training.jobs import Job, plan_jobs
from osteo_models.training.outputs import predictions_file, write_jobs, write_model, write_outputs
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import TrialSettings
from tests.training.small_fits import train_fold

PATIENTS, SLICES = 12, 4
RECIPE = Recipe(epochs=1, precision="float32", batch_norm_momentum=0.9)


@dataclass(frozen=True)
class SmallProject:
    """Its folder, its store, and the version of its unimodal MRI network."""

    settings: Settings
    params: Params
    tracking: Tracking
    jobs: Sequence[Job]
    version: VersionInfo

    @property
    def root(self) -> Path:
        return self.settings.root

    @property
    def files(self) -> Path:
        """Where the files of the version lie."""
        place = self.tracking.client.get_logged_model(self.version.model_id).artifact_location
        return Path(place.removeprefix("file://"))

    def register(self, resamples: int = 1000) -> VersionInfo:
        """Register the network as the DVC stage does, with an interval of so many resamples."""
        folder = self.settings.artifacts / "models" / "unimodal-mri"
        model = read_record(folder / "model.json")
        return register_version(
            self.tracking,
            model_folder=folder,
            metrics={
                "stage_5.patient.balanced_accuracy": 0.8,
                "stage_5.patient.balanced_accuracy.ci_low": 0.7 + 1 / resamples,
            },
            tags={**read_code(self.root), "dvc.data": str(read_data_digest(self.root)), "synthetic": "true"},
            files=collect_files(self.settings, self.params, self.tracking, model),
            evidence=[
                *sorted(self.settings.artifacts.glob("predictions/*/unimodal-mri-*.parquet")),
                *list_splits(self.settings.artifacts),
            ],
            run_id=self.tracking.find_job(model.key).run_id,
        )


def shrink(raw: dict) -> Params:
    """Test sets for 12 patients a group."""
    ages = {"control_age_years": [20, 90], "osteoporosis_age_years": [20, 90]}
    sizes = {"images_per_class": 8, "control_patients": 2, "osteoporosis_patients": 2}
    for modality in ("mri", "ct"):
        raw["splits"]["holdout"][modality] = {"images_per_class": 8, **ages}
        raw["splits"]["patient_test"][modality] = sizes
    raw["splits"]["folds"] = 2
    return parse_params(raw)


def make_project(root: Path, raw: dict, tracking: Tracking) -> SmallProject:
    """Make everything in `root`, whose store is already there."""
    params = shrink(raw)
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    settings = replace(load_settings(root), state=root / ".osteo", tracking_uri=tracking.uri, journal_uri=tracking.uri)
    tables = _write_tables(settings.artifacts, params)
    _record_data(root)
    jobs = [job for job in plan_jobs(params, tables, RECIPE) if job.name == "unimodal-mri-patient"]
    jobs = sorted((job for job in jobs if job.stage in ("stage-1", "stage-5")), key=lambda job: job.stage)
    entries = [_run(job, settings, params, tables, tracking) for job in jobs]
    write_jobs(settings.artifacts, entries)
    made = SmallProject(settings, params, tracking, jobs, None)  # pyright: ignore[reportArgumentType]
    return replace(made, version=made.register())


def _write_tables(artifacts: Path, params: Params) -> Tables:
    """192 images, bright below in osteoporosis, and their splits."""
    rows = [
        (f"{modality}{target}{patient:02d}-{modality}-{number}", f"{modality}{target}{patient:02d}", modality, target)
        for modality in ("mri", "ct")
        for target in (0, 1)
        for patient in range(PATIENTS)
        for number in range(SLICES)
    ]
    images = pd.DataFrame(rows, columns=["image_id", "patient_id", "modality", "target"])
    images = images.assign(age_years=30 + images.index // SLICES % PATIENTS, sex="F")
    pixels = np.random.default_rng(7).integers(0, 100, (len(images), 80, 60), dtype=np.uint8)
    pixels[images["target"] == 1, 40:] += 100
    splits = make_splits(images, params.splits)
    for folder in ("cohort", "splits"):
        (artifacts / folder).mkdir(parents=True)
    images.to_csv(artifacts / "cohort" / "images.csv", index=False)
    np.save(artifacts / "cohort" / "images.npy", pixels)
    (artifacts / "cohort" / "selection.json").write_text('{"mri_control": [{"rule": "all", "left": 12}]}')
    splits.to_csv(artifacts / "splits" / "splits.csv", index=False)
    make_pairs(splits, params.splits).to_csv(artifacts / "splits" / "pairs.csv", index=False)
    return load_tables(artifacts)


def _record_data(root: Path) -> None:
    for patient in range(3):
        path = root / "data" / "dicom" / f"mri0{patient:02d}" / "mri-001.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(np.random.default_rng(patient).bytes(500))
    (root / "data" / "clinical.csv").write_text("patient_id\nmri000\n")
    (root / "requirements.lock").write_text("torch==1\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    dvc, git = [sys.executable, "-m", "dvc"], ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (
        *(["git", "init", "-q"], [*dvc, "add", "-q", "data"]),
        *(["git", "add", "data.dvc"], [*git, "commit", "-qm", "data"]),
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)


def _run(job: Job, settings: Settings, params: Params, tables: Tables, tracking: Tracking) -> dict:
    """Train stage 5; of stage 1 the predictions alone are wanted, and any will do."""
    tags = {"git.commit": "0" * 40, "git.tree": "1" * 40}
    run_id = tracking.begin_job(
        JobRun(job.key, job.stage, job.name, {"seed": job.seed}, tags, "lumbar-cohort", "d" * 32, "data.dvc", 192)
    )
    rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
    if job.stage == "stage-5":
        result = train_fold(TrialSettings(rows, settings.jobs, 1, 0), job, as_arrays(tables))
        entry = write_outputs(settings.artifacts, job, [result], tables)
        write_model(settings.artifacts, job, result, prepare=params.prepare, threshold=0.5)
    else:
        rng = np.random.default_rng(1)
        scores = [(fold, rows[fold].test, rng.random(rows[fold].test.shape, np.float32)) for fold in rows]
        path = settings.artifacts / predictions_file(job)
        path.parent.mkdir(parents=True)
        make_predictions(job, scores, tables).to_parquet(path, index=False)
        entry = {name: getattr(job, name) for name in ("key", "stage", "architecture", "images", "protocol")}
    tracking.finish_run(run_id, {})
    return entry
