"""A search as one Ray Tune job: one trial per candidate, on as many workers as the cluster has.

Tune schedules the trials; the study draws them, decides on them and stores them. Tune's own OptunaSearch is not used:
it keeps the match of Tune's and Optuna's trials in memory, so that after a kill the running ones are neither continued
nor closed, and it reports a pruned trial to Optuna as a complete one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.evaluation.metrics import Estimate, summarize_folds
from osteo_models.models.traditional import ARCHITECTURE
from osteo_models.search.development import Development
from osteo_models.search.leaderboard import Record, Timing
from osteo_models.search.study import Study, StudySpec
from osteo_models.training.cross_validation import run_job
from osteo_models.training.failures import name_reason
from osteo_models.training.identity import list_versions
from osteo_models.training.jobs import Job
from osteo_models.training.ray_cluster import Cluster
from osteo_models.training.trial import TrialConfig, TrialSettings
from osteo_models.training.tune import TrialReport, run_trials

OnChange = Callable[[], None]
NODE_DIED: Final = "its node has died"  # Ray's words when a whole machine is lost, not only a worker process
CHECKPOINT_SECONDS: Final = 10.0  # to checkpoint all folds of a small network can take longer than an epoch


class SearchDriver:
    """Connects the trials of Tune with the study, in the process that runs the search.

    Args:
        study: Draws and stores the candidates.
        settings: Of all trials.
        session: Start of this process's session, from `Study.begin_session`.
        on_change: Called after each change of the study.

    Attributes:
        error: Why no further candidate could be drawn.
        unfinished: Candidates whose machines died; the next run of the search continues them.
    """

    def __init__(self, study: Study, settings: TrialSettings, session: float, on_change: OnChange) -> None:
        self._study, self._settings, self._session, self._on_change = study, settings, session, on_change
        self._numbers: dict[str, int] = {}
        self.error: InputError | None = None
        self.unfinished: list[int] = []

    def next_config(self) -> TrialConfig | None:
        """The next candidate; None if there is none."""
        try:
            record = self._study.next()
        except InputError as error:
            self.error = error
            return None
        if record is None:
            return None
        self._on_change()
        config = self._study.configure(record)
        self._numbers[config.key] = record.number
        return config

    def on_report(self, config: TrialConfig, report: TrialReport) -> bool:
        """Store a report; whether the candidate is closed."""
        number = self._numbers[config.key]
        timing = Timing(self._session, report.worker, report.started, report.ended, report.training_seconds)
        if report.epoch is None:
            self._study.fail(number, name_reason(report.failure), timing)
            closed = True
        else:
            closed = self._study.take(number, report.epoch, timing)
        if closed:
            remove_trials(self._settings, config.key)
        self._on_change()
        return closed

    def on_failure(self, config: TrialConfig, text: str) -> None:
        """Close a candidate that failed too often; one of a machine that died is no fault of the candidate."""
        if NODE_DIED in text:
            self.unfinished.append(self._numbers[config.key])
        else:
            self._study.fail(self._numbers[config.key], name_reason(text))
            remove_trials(self._settings, config.key)
        self._on_change()


def run_search(study: Study, development: Development, cluster: Cluster, *, folder: Path, on_change: OnChange) -> None:
    """Train the candidates of a study that are not closed yet, as trials of one Ray Tune job.

    Args:
        study: Draws and stores the candidates.
        development: The images, which the cluster has too.
        cluster: From `open_cluster`.
        folder: Of all jobs' checkpoints and results.
        on_change: Called in the driver after each change of the study.

    Raises:
        InputError: The space has fewer candidates than the budget; those that were drawn are finished.
        OsteoError: No candidate could be trained, or machines died during one too often.
    """
    rows = dict(enumerate(study.spec.deal(development)))
    settings = TrialSettings(
        rows, folder, cluster.cpus, cluster.gpus, cluster.store, development.patient, CHECKPOINT_SECONDS
    )
    if study.count_left():
        folder.mkdir(parents=True, exist_ok=True)
        driver = SearchDriver(study, settings, study.begin_session(cluster.slots), on_change)
        run_trials(
            settings,
            cluster,
            name=f"search-{study.spec.key}",
            trials=study.count_left(),
            at_once=cluster.slots + 1,  # one more than fit is drawn ahead, so that no worker waits
            next_config=driver.next_config,
            on_report=driver.on_report,
            on_failure=driver.on_failure,
        )
        if driver.error is not None:
            raise driver.error
        if driver.unfinished:
            numbers = ", ".join(str(number) for number in sorted(driver.unfinished))
            found = f"candidates left unfinished, as their machines died: {numbers}"
            raise OsteoError(found, where="search", remedy="run the same command again: it goes on with them")
    remove_trials(settings, study.folder)
    records = study.records()
    failed = [record for record in records if record.status == "failed"]
    if len(failed) == len(records):
        raise OsteoError(f"all {len(failed)} candidates failed, the first: {failed[0].reason}", where="search")


def remove_trials(settings: TrialSettings, key: str) -> None:
    """Remove the checkpoints and results of a candidate, or of a whole study."""
    shutil.rmtree(settings.folder / key, ignore_errors=True)
    if settings.store:
        (settings.store / key).clear()


def reestimate(
    record: Record,
    spec: StudySpec,
    development: Development,
    cluster: Cluster,
    *,
    folder: Path,
    on_epoch: Callable[[int, int], None],
) -> Estimate:
    """Train the winner on fresh folds, as a job of cross-validation.

    The best of many candidates is chosen for its luck too, so the number it was chosen by is too high. The choice does
    not bias an estimate from other weights on other folds of the same patients.

    Args:
        record: The winner.
        spec: Of its study.
        development: The images that the cluster holds.
        cluster: From `open_cluster`.
        folder: Of all jobs' checkpoints and results.
        on_epoch: Takes a fold and its finished epochs.

    Returns:
        The mean over the folds of the balanced accuracy of patients, as in the search, with its interval.
    """
    rows = development.deal(spec.budget.folds, spec.derive_seed("fresh folds"))
    job = Job(
        stage="search",
        architecture=ARCHITECTURE,
        images="mri",
        protocol="patient",
        validation="folds",
        spec=record.spec,
        recipe=replace(spec.recipe, learning_rate=record.learning_rate or spec.recipe.learning_rate),
        seed=spec.derive_seed("fresh weights"),
        folds=spec.budget.folds,
        threads=spec.threads,
        device=spec.device,
        inputs=development.digest_inputs(rows),
        versions=list_versions(ARCHITECTURE, record.spec),
    )
    results = run_job(
        job,
        dict(enumerate(rows)),
        cluster,
        folder=folder,
        at_once=min(cluster.slots, job.folds),
        on_epoch=lambda _, fold, epochs: on_epoch(fold, epochs),
    )
    target, score, fold = list[int](), list[float](), list[int]()
    for result in results:
        test = rows[result.fold].test
        _, first, index = np.unique(development.patient[test], return_index=True, return_inverse=True)
        score += (np.bincount(index, weights=result.scores.astype(np.float64)) / np.bincount(index)).tolist()
        target += development.arrays.target[test][first].tolist()
        fold += [result.fold] * len(first)
    return summarize_folds(target, score, fold)
