"""What no version and no current artifact can reach any more: found, and removed."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlflow.entities import LoggedModel

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.core.settings import Settings
from osteo_models.registry.package import MODEL, local_path, open_package
from osteo_models.registry.retention import Runs, find_required_runs, list_experiments, list_jobs, read_runs
from osteo_models.registry.runs import JOB_TAG, list_all
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import MODEL_TAG, list_versions
from osteo_models.serving.model_record import ModelRecord, read_record
from osteo_models.training.result_store import RESULT

GONE: Final = "gone"  # what is being removed lies here, so that a killed removal leaves nothing that looks whole
KEY: Final = re.compile(r"[0-9a-f]{16}")
FEATURES: Final = re.compile(r"[0-9a-f]{32}")
IDENTITY: Final = re.compile(r"m-[0-9a-f]{32}|(?<![0-9a-f-])[0-9a-f]{32}(?![0-9a-f])")  # a logged model's, a run's


@dataclass(frozen=True)
class Garbage:
    """A folder, or a logged model with its folder.

    Attributes:
        name: What versions and artifacts refer to it by; empty for scratch that nothing ever refers to.
    """

    name: str
    what: str
    path: Path | None
    bytes: int
    model_id: str = ""


def find_garbage(tracking: Tracking, settings: Settings, *, older_than_seconds: float) -> list[Garbage]:
    """What can be removed.

    Args:
        older_than_seconds: What was written to since is left: another process may be working on it.

    Raises:
        StaleDataError: The record of a version is missing or was changed, so it is not known what it needs.
    """
    runs = read_runs(tracking)
    with tracking.reading():
        experiments = [experiment.experiment_id for experiment in list_experiments(tracking)]
        models = list(list_all(tracking.client.search_logged_models, experiments)) if experiments else []
    needed = {*_list_current(settings), *_list_begun(runs), *_list_required(tracking, runs)}
    stored = [*_find_jobs(settings), *_find_features(settings)]
    stored += [*_find_deleted(settings, runs), *_find_models(settings, models)]
    free = [item for item in stored if item.name not in needed] + list(_find_scratch(settings))
    limit = time.time() - older_than_seconds
    made = {model.model_id: model.last_updated_timestamp / 1000 for model in models}
    return [item for item in free if max(made.get(item.model_id, 0.0), _newest(item.path)) <= limit]


def remove_garbage(tracking: Tracking, settings: Settings, garbage: Iterable[Garbage]) -> None:
    """Remove what `find_garbage` found; killed on the way, the next call goes on.

    Raises:
        OsteoError: Something cannot be removed.
    """
    gone = settings.state / GONE
    for number, item in enumerate(garbage):
        if item.model_id:
            with tracking.writing():
                tracking.client.delete_logged_model(item.model_id)
        try:
            if item.path and item.path != gone:
                gone.mkdir(exist_ok=True)
                item.path.rename(gone / f"{time.time_ns()}-{number}")
        except OSError as error:
            raise OsteoError(f"cannot be removed ({error.strerror})", where=str(item.path)) from None
    shutil.rmtree(gone, ignore_errors=True)


def delete_run(tracking: Tracking, run_id: str, *, dry_run: bool = False) -> None:
    """Mark a run as deleted, as MLflow does, unless a version needs it; a dry run refuses as ever.

    Raises:
        InputError: There is no such run.
        OsteoError: A version needs it; nothing was changed.
    """
    runs = read_runs(tracking)
    if run_id not in runs.by_id:
        raise InputError("no such run", where=f"run {run_id}", allowed="the id of a run in this store")
    for version in list_versions(tracking):
        for required in find_required_runs(runs, version, list_jobs(tracking, version)):
            if required.run_id == run_id:
                found = f"{version.title} needs it: {required.role}"
                raise OsteoError(found, where=f"run {run_id}", remedy="nothing was deleted; delete the version first")
    if not dry_run:
        with tracking.writing():
            tracking.client.delete_run(run_id)


def _list_required(tracking: Tracking, runs: Runs) -> Iterator[str]:
    """What versions need: runs, jobs, features and logged models."""
    for version in list_versions(tracking):
        jobs = list_jobs(tracking, version)
        yield from (f"run {run.run_id}" for run in find_required_runs(runs, version, jobs))
        yield from (f"job {key}" for key in [*jobs, version.job])
        if version.model_id:  # of ours
            yield f"model {version.model_id}"
            with open_package(tracking, version, MODEL) as package:
                yield from _name_features(read_record(package.folder / MODEL))
    with tracking.reading():
        # The source of a version that others registered contains the id of its model or run.
        for version in list_all(tracking.client.search_model_versions):
            ids = [*IDENTITY.findall(version.source or ""), version.model_id or "", version.tags.get(MODEL_TAG, "")]
            yield from (f"{'model' if found.startswith('m-') else 'run'} {found}" for found in ids)


def _list_begun(runs: Runs) -> Iterator[str]:
    """The jobs that will be continued: their runs are neither finished nor deleted."""
    for run_id, run in runs.by_id.items():
        if not runs.is_deleted(run_id) and run.info.status != "FINISHED" and JOB_TAG in run.data.tags:
            yield f"job {run.data.tags[JOB_TAG]}"


def _list_current(settings: Settings) -> Iterator[str]:
    """The jobs and features that the artifacts were made from; all there are while the experiments are unfinished."""
    listed = settings.artifacts / "jobs.json"
    if not listed.is_file():  # DVC removes it when the experiments begin, and it is written when they end
        yield from (item.name for item in [*_find_jobs(settings), *_find_features(settings)])
        return
    yield from (f"job {entry['key']}" for entry in json.loads(listed.read_text(encoding="utf-8")))
    for path in settings.artifacts.glob("models/*/model.json"):
        model = read_record(path)
        yield f"job {model.key}"
        yield from _name_features(model)


def _name_features(model: ModelRecord) -> set[str]:
    """The stored features that a model's head was trained on, where it has a frozen backbone."""
    return {f"features {model.stored_features}"} if model.stored_features else set()


def _find_jobs(settings: Settings) -> Iterator[Garbage]:
    for path in (settings.state / "jobs").glob("*"):  # a shared place may be others', too
        folds = list(path.glob("fold-*"))
        if KEY.fullmatch(path.name) and folds and all((fold / RESULT).is_file() for fold in folds):
            yield Garbage(f"job {path.name}", f"folds of job {path.name}", path, _size(path))


def _find_features(settings: Settings) -> Iterator[Garbage]:
    for path in (settings.state / "features").glob("*"):
        if name := FEATURES.match(path.name):
            yield Garbage(f"features {name[0]}", f"features {path.name}", path, _size(path))


def _find_deleted(settings: Settings, runs: Runs) -> Iterator[Garbage]:
    for run_id, run in runs.by_id.items():
        path = local_path(run.info.artifact_uri or "")
        if runs.is_deleted(run_id) and path and path.is_dir() and path.is_relative_to(settings.state):
            yield Garbage(f"run {run_id}", f"files of the deleted run {run_id}", path, _size(path))


def _find_models(settings: Settings, models: Iterable[LoggedModel]) -> Iterator[Garbage]:
    for model in models:
        path = local_path(model.artifact_location)
        own = path if path and path.is_dir() and path.is_relative_to(settings.state) else None
        if JOB_TAG in model.tags:
            what = f"model {model.model_id} without a version"
            yield Garbage(f"model {model.model_id}", what, own, _size(own) if own else 0, model.model_id)


def _find_scratch(settings: Settings) -> Iterator[Garbage]:
    """Folders that a killed command left half-made, and Ray Tune's own state, which is never read again."""
    patterns = [
        (settings.state, "reproduce-*", "half-made"),
        (settings.state, GONE, "half removed"),
        (settings.state / "ray", "*", "Ray Tune's state of"),
    ]
    for place, pattern, what in patterns:
        for path in sorted(place.glob(pattern)):
            if path.is_dir():
                yield Garbage("", f"{what} {path.name}", path, _size(path))


def _newest(path: Path | None) -> float:
    """When anything in a folder was written last, in seconds since 1970."""
    if path is None:
        return 0.0
    return max(item.stat().st_mtime for item in [path, *path.rglob("*")])


def _size(path: Path) -> int:
    return sum(item.stat().st_size for item in [path, *path.rglob("*")] if item.is_file())
