"""MLflow runs that a version requires, deleted ones included: its registration, its jobs, their folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Experiment, LifecycleStage, Run, ViewType

from osteo_models.registry.package import ORIGIN, open_package
from osteo_models.registry.runs import FOLD_TAG, JOB_TAG, PARENT_TAG, list_all
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo


@dataclass(frozen=True)
class Runs:
    """Every run of a store.

    Attributes:
        by_id: All runs, deleted ones too.
        of_job: Run ids by job key.
        folds: Run ids of a job's folds by the job's run id and fold.
    """

    by_id: Mapping[str, Run]
    of_job: Mapping[str, Sequence[str]]
    folds: Mapping[str, Mapping[str, Sequence[str]]]

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run is gone, or marked as deleted."""
        return run_id not in self.by_id or self.by_id[run_id].info.lifecycle_stage == LifecycleStage.DELETED

    def prefer(self, run_ids: Sequence[str]) -> str:
        """Of several runs for the same thing the one that is not deleted: of two drivers one deletes its own."""
        return next((run_id for run_id in run_ids if not self.is_deleted(run_id)), run_ids[0] if run_ids else "")


@dataclass(frozen=True)
class RequiredRun:
    """A run that a version requires; without an id where MLflow no longer has it."""

    run_id: str
    role: str


def read_runs(tracking: Tracking) -> Runs:
    """Read every run of every experiment, deleted ones included."""
    with tracking.reading():
        experiments = [found.experiment_id for found in list_experiments(tracking)]
        runs = list_all(tracking.client.search_runs, experiments, run_view_type=ViewType.ALL) if experiments else ()
        by_id = {run.info.run_id: run for run in runs}
    of_job: dict[str, list[str]] = defaultdict(list)
    folds: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run_id, run in by_id.items():
        tags = run.data.tags
        if JOB_TAG in tags:
            of_job[tags[JOB_TAG]].append(run_id)
        if FOLD_TAG in tags and PARENT_TAG in tags:
            folds[tags[PARENT_TAG]][tags[FOLD_TAG]].append(run_id)
    return Runs(by_id, dict(of_job), {parent: dict(found) for parent, found in folds.items()})


def find_required_runs(runs: Runs, version: VersionInfo, jobs: Iterable[str]) -> Iterator[RequiredRun]:
    """The runs that a version requires, each once: its registration, its jobs and their folds.

    Args:
        runs: From `read_runs`.
        jobs: Keys of the jobs whose predictions are its evidence: see `list_jobs`.
    """
    roles = dict.fromkeys([version.run_id] if version.run_id else [], "the run of its registration")
    registered = runs.by_id.get(version.run_id)
    if registered and (parent := registered.data.tags.get(PARENT_TAG)):
        roles.setdefault(parent, "the run of its job")
    lost: list[RequiredRun] = []
    for key in sorted({*jobs, version.job} - {""}):
        if run_id := runs.prefer(runs.of_job.get(key, [])):
            roles.setdefault(run_id, f"the run of job {key}")
        else:
            lost.append(RequiredRun("", f"the run of job {key}"))
    for run_id in list(roles):
        for fold, found in runs.folds.get(run_id, {}).items():
            roles.setdefault(runs.prefer(found), f"fold {fold} of {roles[run_id].removeprefix('the run of ')}")
    yield from (RequiredRun(run_id, role) for run_id, role in roles.items())
    yield from lost


def list_jobs(tracking: Tracking, version: VersionInfo) -> list[str]:
    """Keys of the jobs behind a version's metrics; none of a version that something else registered.

    Raises:
        StaleDataError: The record of the version is missing or was changed, so its jobs are not known.
    """
    if not version.model_id:
        return []
    with open_package(tracking, version, ORIGIN, check=False) as package:
        return package.list_jobs()


def list_experiments(tracking: Tracking) -> Iterator[Experiment]:
    """Every experiment, deleted ones included."""
    return list_all(tracking.client.search_experiments, ViewType.ALL)
