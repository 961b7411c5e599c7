"""Jobs and their folds as MLflow runs: one run per job key, and every call may be repeated without doubling anything.

Only the driver process writes, from several threads; trials return their numbers to it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.processes import name_process
from osteo_models.registry.runs import (
    EXPERIMENTS,
    FAILURE_TAG,
    FOLD_TAG,
    JOB_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    JobInfo,
    JobRun,
    dataset_input,
    job_tags,
    list_all,
    make_points,
)
from osteo_models.registry.store import explain_mlflow, open_client, retry_collisions, serialize_writes

BATCH: Final = 1000  # MLflow takes at most this many metrics in one request
SETTING: Final = "MLFLOW_TRACKING_URI"  # named in the place of its value, which may hold a password
TEXT: Final = 5000  # characters of a tag or parameter that every MLflow store takes


@dataclass(frozen=True)
class Tracking:
    """An open store; a function that takes one raises StoreError where it cannot be used.

    Thread-safe: SQLite takes one writer at a time, so writers of this process take turns.

    Attributes:
        client: MLflow's client, bound to `uri` and to no global setting.
        artifacts: Where artifacts of new experiments go; None where a tracking server decides.
    """

    client: MlflowClient
    uri: str
    artifacts: str | None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def begin_job(self, job: JobRun) -> str:
        """Find or make the run of a job, as `begin_run`."""
        experiment = f"{EXPERIMENTS}{job.stage}"
        return self.begin_run(experiment, job.key, job.name, job.params, job_tags(job), [dataset_input(job)])

    def begin_run(
        self,
        experiment: str,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        inputs: Sequence[DatasetInput] = (),
        *,
        reopen: bool = False,
    ) -> str:
        """Find or make the run of a job or a search; one that was killed or failed is reopened.

        Args:
            experiment: Name of the experiment, made where it is missing.
            key: Key of the job or search; the same key is always the same run.
            name: Name of a new run.
            params: Parameters; those that the run has already are left as they are.
            tags: Tags.
            inputs: The data set.
            reopen: Whether to reopen a finished run, too; otherwise it is left as it is.

        Returns:
            The run's id.
        """

        def begin() -> str:
            run = self._job_run(key) or self.create_once(self.find_experiment(experiment), {JOB_TAG: key}, name)
            run_id = run.info.run_id
            if run.info.status == "FINISHED" and not reopen:
                return run_id
            self.client.update_run(run_id, status="RUNNING")
            if FAILURE_TAG in run.data.tags:
                self.client.delete_tag(run_id, FAILURE_TAG)
            self.log_texts(run, params, {**tags, PROCESS_TAG: name_process()})
            if inputs:
                self.client.log_inputs(run_id, inputs)
            return run_id

        with self.writing():
            return retry_collisions(begin)

    def log_fold(
        self, run_id: str, fold: int, params: Mapping[str, Any], history: Sequence[Mapping[str, float]]
    ) -> str:
        """Record one fold as a finished child run, as `log_child`; its curves are those of `runs.make_points`."""
        seconds = sum(float(row.get("seconds", 0.0)) for row in history)
        start = int((time.time() - seconds) * 1000)  # the fold ran before it is logged
        points = make_points(history, start)
        return self.log_child(run_id, {FOLD_TAG: str(fold)}, f"fold-{fold}", params, points, start=start)

    def log_child(
        self,
        run_id: str,
        marks: Mapping[str, str],
        name: str,
        params: Mapping[str, Any],
        points: Sequence[Metric],
        *,
        start: int,
        end: int | None = None,
        tags: Mapping[str, str] = MappingProxyType({}),
        status: str = "FINISHED",
    ) -> str:
        """Record a fold or candidate as a child run that has ended; one that has ended already is left as it is.

        Args:
            run_id: Run of the job or search.
            marks: Tags by which the child is found again.
            name: Name of the child.
            params: Parameters.
            points: Curves.
            start: Start in milliseconds since 1970.
            end: End, now by default.
            tags: Further tags.
            status: FINISHED or FAILED.

        Returns:
            The child run's id.
        """
        with self.writing():
            experiment, marks = self.client.get_run(run_id).info.experiment_id, {PARENT_TAG: run_id, **marks}
            runs = self.find_runs([experiment], marks)
            child = runs[0] if runs else self.create_once(experiment, marks, name, start)
            child_id = child.info.run_id
            if child.info.status in ("FINISHED", "FAILED"):
                return child_id
            self.log_texts(child, params, tags)
            # Killed between two batches, a run has some of its points already.
            logged = {(key, step) for key in child.data.metrics for step in self._steps(child_id, key)}
            self.log_points(child_id, [point for point in points if (point.key, point.step) not in logged])
            self.client.set_terminated(child_id, status, end)
            return child_id

    def finish_run(
        self, run_id: str, metrics: Mapping[str, float], artifacts: Iterable[Path] = ()
    ) -> tuple[float, float]:
        """Log what the folds gave together, and end the run.

        Returns:
            When the run began and when it ended, in seconds since 1970.
        """
        for path in artifacts:
            self.log_artifact(run_id, path)
        with self.writing():
            run = self.client.get_run(run_id)
            self.log_changes(run, metrics)
            if run.info.status != "FINISHED":  # its end stays where it was
                self.client.set_terminated(run_id, "FINISHED")
                run = self.client.get_run(run_id)
            return run.info.start_time / 1000, cast(int, run.info.end_time) / 1000

    def fail_run(self, run_id: str, reason: str) -> None:
        """End the run as FAILED; the reason stays visible until the job is begun again."""
        with self.writing():
            self.client.set_tag(run_id, FAILURE_TAG, reason[:TEXT])
            self.client.set_terminated(run_id, "FAILED")

    def find_job(self, key: str) -> JobInfo | None:
        """The run of a job, None where there is none."""
        with self.reading():
            run = self._job_run(key)
        return JobInfo(run.info.run_id, run.info.status, run.data.metrics) if run else None

    def log_statistics(self, key: str, metrics: Mapping[str, float]) -> str:
        """Log statistics to a job's run; only what is new or differs is written, and the newest value shows.

        Raises:
            InputError: There is no run for this key.
        """
        with self.writing():
            run = self._job_run(key)
            if run is None:
                raise InputError(f"no run of job {key}", where=SETTING, remedy="run `dvc repro experiments` first")
            self.log_changes(run, metrics)
            return run.info.run_id

    def log_artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Keep a file with a run; a file of the same name is replaced."""
        with self.writing():
            self.client.log_artifact(run_id, str(path), folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's turn; MLflow's exceptions come out as StoreError."""
        with self.lock, explain_mlflow(self.uri):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """MLflow's exceptions come out as StoreError."""
        with explain_mlflow(self.uri):
            yield

    def find_experiment(self, name: str) -> str:
        """The id of an experiment, made where there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = f"{self.artifacts}/{name.removeprefix(EXPERIMENTS)}" if self.artifacts else None
            try:
                return self.client.create_experiment(name, artifact_location=place)
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            remedy = f"run `mlflow experiments restore --experiment-id {found.experiment_id}`"
            raise StoreError(f"experiment {name} was deleted", where=SETTING, remedy=remedy)
        return found.experiment_id

    def list_experiments(self) -> list[str]:
        """Ids of our experiments, deleted ones left out."""
        experiments = list_all(self.client.search_experiments, filter_string=f"name LIKE '{EXPERIMENTS}%'")
        return [experiment.experiment_id for experiment in experiments]

    def log_texts(self, run: Run, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Log tags, and parameters that the run does not have yet: MLflow refuses to change one."""
        self.client.log_batch(
            run.info.run_id,
            params=[Param(name, str(value)[:TEXT]) for name, value in params.items() if name not in run.data.params],
            tags=[RunTag(name, str(value)[:TEXT]) for name, value in tags.items()],
            synchronous=True,
        )

    def log_points(self, run_id: str, points: Sequence[Metric]) -> None:
        """Log metrics in as few requests as MLflow allows."""
        for start in range(0, len(points), BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + BATCH], synchronous=True)

    def log_changes(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Log what is new to a run, or differs from the value that it shows."""
        now, points = int(time.time() * 1000), list[Metric]()
        for name, value in metrics.items():
            shown = run.data.metrics.get(name)
            if shown is None or not (shown == value or (math.isnan(shown) and math.isnan(value))):
                step = 0 if shown is None else max(self._steps(run.info.run_id, name)) + 1
                points.append(Metric(name, float(value), now, step))
        self.log_points(run.info.run_id, points)

    def find_runs(self, experiments: Sequence[str], tags: Mapping[str, str]) -> list[Run]:
        """Runs that carry these tags, the oldest first."""
        clauses = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = list_all(self.client.search_runs, list(experiments), clauses) if experiments else []
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def create_once(self, experiment: str, tags: Mapping[str, str], name: str, start: int | None = None) -> Run:
        """Make the run that carries these tags, unless another driver was faster.

        Where drivers cannot take turns two may have looked and found nothing, and a server may have made a run whose
        answer was lost, so that the client asked again: whoever sees more than one run keeps the oldest.
        """
        with serialize_writes(self.uri):
            if not self.find_runs([experiment], tags):
                self.client.create_run(experiment, start, {**tags, PROCESS_TAG: name_process()}, run_name=name)
            oldest, *others = self.find_runs([experiment], tags)
            for other in others:
                self.client.delete_run(other.info.run_id)
            return oldest

    def _job_run(self, key: str) -> Run | None:
        return next(iter(self.find_runs(self.list_experiments(), {JOB_TAG: key})), None)

    def _steps(self, run_id: str, name: str) -> list[int]:
        return [point.step for point in self.client.get_metric_history(run_id, name)]


def open_tracking(uri: str, artifact_root: Path) -> Tracking:
    """Open the store at `uri`; a database is made and migrated first, once, however many processes start.

    Args:
        uri: `sqlite:///FILE`, `postgresql://...`, or a tracking server's address.
        artifact_root: Where artifacts of a database store go.
    """
    client = open_client(uri, artifact_root)
    return Tracking(client, uri, None if uri.startswith("http") else artifact_root.absolute().as_uri())
