"""What no version and no current artifact can reach any more: found, and removed."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
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

ARTIFACTS: Final = "artifacts"  # the root for the content of the folder of this name
GONE: Final = "gone"  # what is being removed lies here, so that a killed removal leaves nothing that looks whole
KEY: Final = re.compile(r"[0-9a-f]{16}")
FEATURES: Final = re.compile(r"[0-9a-f]{32}")
IDENTITY: Final = re.compile(r"m-[0-9a-f]{32}|(?<![0-9a-f-])[0-9a-f]{32}(?![0-9a-f])")  # a logged model's, a run's


@dataclass(frozen=True)
class Garbage:
    """A folder, or a logged model with its folder.

    Attributes:
        node: Its name in the graph of what reaches what; empty for scratch that nothing ever refers to.
    """

    node: str
    what: str
    path: Path | None
    bytes: int
    model_id: str = ""


def find_unreachable(edges: Mapping[str, Iterable[str]], roots: Iterable[str], nodes: Iterable[str]) -> set[str]:
    """Those of `nodes` that no path along `edges` leads to from any of `roots`."""
    reached, waiting = set[str](), list(roots)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(edges.get(node, ()))
    return set(nodes) - reached


def find_garbage(tracking: Tracking, settings: Settings, *, older_than_seconds: float) -> list[Garbage]:
    """What can be removed.

    Args:
        tracking: The store.
        settings: The environment.
        older_than_seconds: What was written to since is left: another process may be working on it.

    Raises:
        StaleDataError: The record of a version is missing or was changed, so it is not known what it needs.
        StoreError: The store cannot be used.
    """
    runs = read_runs(tracking)
    with tracking.reading():
        experiments = [found.experiment_id for found in list_experiments(tracking)]
        models = list(list_all(tracking.client.search_logged_models, experiments)) if experiments else []
    edges, roots = _draw_graph(tracking, settings, runs)
    found = [*_find_jobs(settings), *_find_features(settings)]
    found += [*_find_deleted(settings, runs), *_find_models(settings, models)]
    free = find_unreachable(edges, roots, (item.node for item in found))
    found = [item for item in found if item.node in free] + list(_find_scratch(settings))
    limit = time.time() - older_than_seconds
    made = {model.model_id: model.last_updated_timestamp / 1000 for model in models}
    return [item for item in found if max(made.get(item.model_id, 0.0), _newest(item.path)) <= limit]


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


def _draw_graph(tracking: Tracking, settings: Settings, runs: Runs) -> tuple[dict[str, set[str]], set[str]]:
    """What reaches what, and where reaching starts: versions, current artifacts, runs that are not deleted."""
    edges: dict[str, set[str]] = {ARTIFACTS: set(_list_current(settings))}
    for version in list_versions(tracking):
        jobs = list_jobs(tracking, version)
        required = {f"run {run.run_id}" for run in find_required_runs(runs, version, jobs)}
        made = {f"job {key}" for key in [*jobs, version.job]} | {f"model {version.model_id}"}
        if version.model_id:  # of ours
            with open_package(tracking, version, MODEL) as package:
                made |= _name_features(read_record(package.folder / MODEL))
        edges[version.uri] = required | made
    with tracking.reading():
        # Versions that others registered say in their source where their files are.
        for found in list_all(tracking.client.search_model_versions):
            held = [*IDENTITY.findall(found.source or ""), found.model_id or "", found.tags.get(MODEL_TAG, "")]
            reached = {f"{'model' if each.startswith('m-') else 'run'} {each}" for each in held}
            edges.setdefault(f"models:/{found.name}/{found.version}", set()).update(reached)
    roots = set(edges)
    for run_id, run in runs.by_id.items():
        if not runs.is_deleted(run_id):
            roots.add(f"run {run_id}")
            if run.info.status != "FINISHED" and JOB_TAG in run.data.tags:  # it will be continued
                edges[f"run {run_id}"] = {f"job {run.data.tags[JOB_TAG]}"}
    return edges, roots


def _list_current(settings: Settings) -> Iterator[str]:
    """The jobs and features that the artifacts were made from; all there are while the experiments are unfinished."""
    listed = settings.artifacts / "jobs.json"
    if not listed.is_file():  # DVC removes it when the experiments begin, and it is written when they end
        yield from (item.node for item in [*_find_jobs(settings), *_find_features(settings)])
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
