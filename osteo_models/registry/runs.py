"""The MLflow runs of jobs, folds and searches: what they record, and those whose process is gone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.store.entities import PagedList

from osteo_models.core.processes import is_gone
from osteo_models.core.terms import Stage

if TYPE_CHECKING:
    from osteo_models.registry.tracking import Tracking

JOB_TAG: Final = "osteo.job"
FOLD_TAG: Final = "osteo.fold"
FAILURE_TAG: Final = "osteo.failure"
PARENT_TAG: Final = "mlflow.parentRunId"
PROCESS_TAG: Final = "osteo.process"  # who works on a run, as `processes.name_process` says it
NOTE_TAG: Final = "mlflow.note.content"
EXPERIMENTS: Final = "osteo/"
CURVES: Final = ("train_loss", "test_loss", "test_balanced_accuracy", "seconds")
SYNTHETIC_NOTICE: Final = "**Synthetic cohort.** Made from a phantom: a test bed, not evidence about patients."
PAGE: Final = 1000  # of the most that every store gives in one answer
Found = TypeVar("Found")


@dataclass(frozen=True)
class JobRun:
    """What a job's run records before the first epoch.

    Attributes:
        key: The job's key; the same key is the same run for ever.
        params: Recipe and spec, flat.
        tags: `git.commit`, `dvc.data`, `dvc.splits`, `synthetic`, ...
        dataset_digest: DVC's md5 of the data, with `.dir` or without.
        dataset_source: Where it is, such as `data.dvc`.
        images: Number of images.
    """

    key: str
    stage: Stage
    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    dataset_name: str
    dataset_digest: str
    dataset_source: str
    images: int


@dataclass(frozen=True)
class JobInfo:
    """A job's run as it stands; `status` is MLflow's: RUNNING, FINISHED, FAILED, KILLED, SCHEDULED."""

    run_id: str
    status: str
    metrics: Mapping[str, float]


def is_synthetic(tags: Mapping[str, str]) -> bool:
    """Whether tags say that the data is synthetic."""
    return str(tags.get("synthetic", "")).lower() in {"true", "1", "yes"}


def job_tags(job: JobRun) -> dict[str, str]:
    """Tags of a job's run."""
    tags = {"osteo.stage": job.stage, **job.tags, **note_synthetic(job.tags)}
    return tags | ({"mlflow.source.git.commit": tags["git.commit"]} if "git.commit" in tags else {})


def note_synthetic(tags: Mapping[str, str]) -> dict[str, str]:
    """MLflow's note that the data is synthetic, where the tags say so."""
    return {NOTE_TAG: SYNTHETIC_NOTICE} if is_synthetic(tags) else {}


def dataset_input(job: JobRun) -> DatasetInput:
    """The data set of a job's run."""
    source, profile = json.dumps({"uri": job.dataset_source}), json.dumps({"num_rows": job.images})
    dataset = Dataset(job.dataset_name, job.dataset_digest, "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def make_points(history: Sequence[Mapping[str, float]], start: int) -> list[Metric]:
    """The curves of a fold, one point per epoch at the time when it ended.

    Args:
        history: Per epoch: `epoch` (1-based) and the names in `CURVES`; others are left out.
        start: Start of the fold in milliseconds since 1970.
    """
    points: list[Metric] = []
    ends = itertools.accumulate(row.get("seconds", 0.0) for row in history)
    for row, elapsed in zip(history, ends, strict=True):
        at, epoch = start + round(elapsed * 1000), int(row["epoch"])
        points += [Metric(name, float(row[name]), at, epoch) for name in CURVES if name in row]
    return points


def list_all(search: Callable[..., PagedList[Found]], *arguments: Any, **given: Any) -> Iterator[Found]:
    """Everything that a search of MLflow's client finds.

    Args:
        search: Such as `client.search_runs`.
        arguments: Its arguments.
        given: Its arguments by name.
    """
    token: str | None = None
    while True:
        page = search(*arguments, max_results=PAGE, page_token=token, **given)
        yield from page
        token = page.token
        if not token:
            return


@dataclass(frozen=True)
class RunningRun:
    """An unfinished run; `process` is empty where the run names none."""

    run_id: str
    name: str
    process: str


def find_running(tracking: Tracking) -> list[RunningRun]:
    """The unfinished runs of jobs, folds and searches, with the process that works on each."""
    with tracking.reading():
        experiments, running = tracking.list_experiments(), "attributes.status = 'RUNNING'"
        runs = list(list_all(tracking.client.search_runs, experiments, running)) if experiments else []
    return [RunningRun(run.info.run_id, run.info.run_name or "", run.data.tags.get(PROCESS_TAG, "")) for run in runs]


def find_orphans(tracking: Tracking, ended: Container[str] = ()) -> list[RunningRun]:
    """The unfinished runs whose process is gone, or that name none; processes in `ended` count as gone."""
    return [run for run in find_running(tracking) if run.process in ended or not run.process or is_gone(run.process)]


def end_orphans(tracking: Tracking, orphans: Iterable[RunningRun]) -> None:
    """Set runs to KILLED; a job that is begun again reopens its own."""
    with tracking.writing():
        for orphan in orphans:
            tracking.client.set_terminated(orphan.run_id, "KILLED")
