"""A search as one Ray Tune job: one trial per candidate, its folds inside it, on as many workers as the cluster has.

Tune schedules; the study decides and remembers. Tune's own OptunaSearch is not used: it knows which of its trials is
which of Optuna's in memory only, so that after a kill those that were running are neither gone on with nor closed; and
it tells Optuna of a candidate that was stopped early as of a complete one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from osteo_models.core.errors import InputError, OsteoError
from osteo_models.search.candidate import CandidateTrial, Course, Step, candidate_folder, candidate_name
from osteo_models.search.leaderboard import Timing
from osteo_models.search.study import Study
from osteo_models.training.failures import MOST_FAILURES, name_reason
from osteo_models.training.result_store import Shelf
from osteo_models.training.tune import Cluster

OnChange = Callable[[], None]
NODE_DIED: Final = "its node has died"  # as Ray says it, in the place of a worker's process alone


@dataclass
class Conductor:
    """What Tune's three hooks share: the study, and whom to tell of changes.

    Attributes:
        problem: Why no further candidate could be drawn.
        lost: Candidates that were given up because machines died under them; they stay unfinished.
    """

    study: Study
    session: float
    folder: Path
    on_change: OnChange
    shelf: Shelf | None = None
    problem: InputError | None = None
    lost: list[int] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its hooks with an experiment's state, which is never read again

    def draw(self) -> dict[str, Any] | None:
        """The next candidate as Tune's config."""
        try:
            record = self.study.next()
        except InputError as error:
            self.problem = error
            return None
        if record is None:
            return None
        self.on_change()
        content = {"spec": dict(record.spec), "learning_rate": record.learning_rate}
        return {"candidate": record.number, "session": self.session, **content}

    def take(self, result: dict[str, Any]) -> bool:
        """Note a step; whether the candidate is closed."""
        number, timing = result["candidate"], Timing(*(result[field.name] for field in fields(Timing)))
        if "failed" in result:
            self.study.fail(number, result["failed"], timing)
            closed = True
        else:
            closed = self.study.take(number, Step(*(result[field.name] for field in fields(Step))), timing)
        self.tell(number, closed)
        return closed

    def fail(self, number: int, reason: str) -> None:
        """Note that a candidate failed too often."""
        self.study.fail(number, reason)
        self.tell(number, closed=True)

    def leave(self, number: int) -> None:
        """Leave a candidate whose machines died, which is no fault of its own, to the next run of the search."""
        self.lost.append(number)
        self.tell(number, closed=False)

    def tell(self, number: int, closed: bool) -> None:
        """Clear up after a candidate, and tell of the change."""
        if closed:
            shutil.rmtree(candidate_folder(self.folder, number), ignore_errors=True)
            if self.shelf:
                (self.shelf / candidate_name(number)).clear()
        self.on_change()


class _Suggest(Searcher):
    """Asks the study for candidates."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def suggest(self, trial_id: str) -> Any:
        config = self._conductor.draw()
        return Searcher.FINISHED if config is None else config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The study knows already."""

    def save(self, checkpoint_path: str) -> None:
        """The study is saved already."""


class _Decide(FIFOScheduler):
    """Hands each step to the study, and stops what it closed."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return TrialScheduler.STOP if self._conductor.take(result) else TrialScheduler.CONTINUE


class _Mourn(tune.Callback):
    """Closes candidates that failed too often."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        # All failures of the trial; the copy in Tune's storage, which `get_error` reads, comes later.
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "no reason was given"
        if NODE_DIED in text:  # one will do: it is a try that the machine took from it
            self._conductor.leave(trial.config["candidate"])
        else:
            self._conductor.fail(trial.config["candidate"], name_reason(text))


def run_search(study: Study, course: Course, cluster: Cluster, *, name: str, on_change: OnChange) -> None:
    """Train the candidates of a study that have no end yet, as trials of one Ray Tune job.

    Args:
        study: Draws and remembers.
        course: What all candidates go through.
        cluster: From `open_cluster`, with the development set alone.
        name: Of the Tune job.
        on_change: Called in the driver after each change of the study.

    Raises:
        InputError: the space holds fewer candidates than are wanted; those found are finished.
        OsteoError: no candidate could be trained, or machines died under one too often.
    """
    if not study.count_left():
        _clear(course)  # what a kill in the last moment left
        return
    course.folder.mkdir(parents=True, exist_ok=True)
    conductor = Conductor(study, study.begin_session(cluster.slots), course.folder, on_change, course.shelf)
    bound = tune.with_parameters(CandidateTrial, course=course, arrays=[cluster.arrays])
    tuner = tune.Tuner(
        tune.with_resources(bound, {"cpu": course.cpus, "gpu": course.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=_Suggest(conductor),
            scheduler=_Decide(conductor),
            num_samples=study.count_left(),
            reuse_actors=True,
            # One more than fit is drawn ahead, so that no worker waits for the sampler.
            max_concurrent_trials=cluster.slots + 1,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(course.folder.parents[1] / "ray"),
            callbacks=[_Mourn(conductor)],
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
            # A candidate checkpoints itself; Tune's own checkpoints would be a second truth.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()
    if conductor.problem is not None:
        raise conductor.problem
    if conductor.lost:
        numbers = ", ".join(str(number) for number in sorted(conductor.lost))
        found = f"candidates left unfinished, as their machines died: {numbers}"
        raise OsteoError(found, where="search", remedy="run the same command again: it goes on with them")
    _clear(course)
    failed = [record for record in study.records() if record.status == "failed"]
    if len(failed) == len(study.records()):
        raise OsteoError(f"all {len(failed)} candidates failed, the first: {failed[0].reason}", where="search")


def _clear(course: Course) -> None:
    shutil.rmtree(course.folder, ignore_errors=True)
    if course.shelf:
        course.shelf.clear()
