"""What a version needs of MLflow's runs, deleted ones included: its registration, its jobs, their folds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Experiment, LifecycleStage, Run, ViewType

from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import read_kept
from osteo_models.registry.records import ORIGIN, RECORDS
from osteo_models.registry.runs import FOLD_TAG, JOB_TAG, PARENT_TAG, list_all
from osteo_models.registry.tracking import Tracking


@dataclass(frozen=True)
class Runs:
    """Every run of a store.

    Attributes:
        by_id: Deleted ones too.
        of_job: Run ids by job key.
        folds: Run ids of a job's folds by the job's run id and fold.
    """

    by_id: Mapping[str, Run]
    of_job: Mapping[str, Sequence[str]]
    folds: Mapping[str, Mapping[str, Sequence[str]]]

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run is gone, or marked as deleted."""
        return run_id not in self.by_id or self.by_id[run_id].info.lifecycle_stage == LifecycleStage.DELETED

    def prefer(self, found: Sequence[str]) -> str:
        """Of several runs for the same thing the one that is there: of two drivers one deletes its own."""
        return next((run_id for run_id in found if not self.is_deleted(run_id)), found[0] if found else "")


@dataclass(frozen=True)
class Need:
    """A run that a version needs; without an id where MLflow does not know it any more."""

    run_id: str
    role: str


def read_runs(tracking: Tracking) -> Runs:
    """Read every run of every experiment, deleted ones included.

    Raises:
        StoreError: The store cannot be used.
    """
    with tracking.reading():
        experiments = [found.experiment_id for found in all_experiments(tracking)]
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


def find_needs(runs: Runs, version: VersionInfo, jobs: Iterable[str]) -> Iterator[Need]:
    """The runs that a version needs, each once.

    Args:
        runs: From `read_runs`.
        version: The version.
        jobs: Keys of the jobs whose predictions are its evidence: see `list_jobs`.
    """
    needed = dict.fromkeys([version.run_id] if version.run_id else [], "the run of its registration")
    registered = runs.by_id.get(version.run_id)
    if registered and (parent := registered.data.tags.get(PARENT_TAG)):
        needed.setdefault(parent, "the run of its job")
    lost: list[Need] = []
    for key in sorted({*jobs, version.job} - {""}):
        if run_id := runs.prefer(runs.of_job.get(key, [])):
            needed.setdefault(run_id, f"the run of job {key}")
        else:
            lost.append(Need("", f"the run of job {key}"))
    for run_id in list(needed):
        for fold, found in runs.folds.get(run_id, {}).items():
            needed.setdefault(runs.prefer(found), f"fold {fold} of {needed[run_id].removeprefix('the run of ')}")
    yield from (Need(run_id, role) for run_id, role in needed.items())
    yield from lost


def list_jobs(tracking: Tracking, version: VersionInfo) -> list[str]:
    """Keys of the jobs behind a version's metrics; none of a version that something else registered.

    Raises:
        StaleDataError: The record of the version is missing or was changed, so its jobs are not known.
        StoreError: The store cannot be used.
    """
    if not version.model_id:
        return []
    origin = json.loads(read_kept(tracking, version, f"{RECORDS}/{ORIGIN}"))
    return [entry["key"] for entry in origin["jobs"]]


def all_experiments(tracking: Tracking) -> Iterator[Experiment]:
    """Every experiment, deleted ones included."""
    return list_all(tracking.client.search_experiments, ViewType.ALL)
