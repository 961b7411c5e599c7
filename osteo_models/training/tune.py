"""Ray Tune: runs trials of cross-validation and of searches on as many workers as the cluster has.

A trial writes its own checkpoints and results, and Tune's experiment state is never read: after a kill the next run
trains only what has no result yet, each trial from its own last checkpoint.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from osteo_models.core.errors import OsteoError, StoreError
from osteo_models.training.failures import MAX_RETRIES, is_out_of_memory
from osteo_models.training.fold import Arrays
from osteo_models.training.ray_cluster import Cluster
from osteo_models.training.result_store import check_reach
from osteo_models.training.trial import EpochReport, Trial, TrialConfig, TrialSettings

_REGISTERING = threading.Lock()


@dataclass(frozen=True)
class TrialReport:
    """What a worker reports to Tune after each epoch of a trial.

    Attributes:
        epoch: None if the trial failed.
        failure: Why the trial cannot be trained; empty if it can.
        worker: Host and process number.
        started: When the worker started on the trial, in seconds since 1970.
        ended: When it finished the epoch.
        training_seconds: Training and testing since `started`.
    """

    epoch: EpochReport | None
    failure: str
    worker: str
    started: float
    ended: float
    training_seconds: float

    @property
    def finished(self) -> bool:
        """Whether the trial ends with this report."""
        return self.epoch is None or self.epoch.finished


NextConfig = Callable[[], TrialConfig | None]
OnReport = Callable[[TrialConfig, TrialReport], bool]
OnFailure = Callable[[TrialConfig, str], None]


class TrialRunner(tune.Trainable):
    """A trial as Tune's Trainable: one epoch per step; the process is reused for the next trial."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # the arguments that `with_parameters` adds
        self, config: dict[str, Any], *, settings: TrialSettings, inputs: list[ray.ObjectRef]
    ) -> None:
        """Read `inputs` from the object store: the arrays, and the tensors of a pretrained backbone."""
        check_reach(settings.folder, settings.store)
        arrays, *tensors = ray.get(inputs)
        self._settings, self._tensors = settings, tensors[0] if tensors else None
        # Arrays of the object store are read-only, and each fit would make a copy of its own.
        self._arrays = Arrays(np.array(arrays.images), arrays.target, arrays.modality)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial without a new process."""
        self._config: TrialConfig = new_config["trial"]
        self._trial: Trial | None = None
        self._started, self._seconds = time.time(), 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; an error that would occur again, such as a full disk, ends the trial."""
        epoch, failure = None, ""
        try:
            self._trial = self._trial or Trial(self._settings, self._config, self._arrays, self._tensors)
            epoch = self._trial.run_epoch()
            self._seconds += epoch.seconds
        except StoreError:  # Tune tries again: the shared store may be back soon
            raise
        except OsteoError as error:
            failure = str(error)
        except (RuntimeError, MemoryError) as error:
            failure = "".join(traceback.format_exception_only(error)).strip()
            if not is_out_of_memory(failure):
                raise
        if failure:
            self._trial = None  # frees its memory for the next trial
        worker = f"{platform.node()}-{os.getpid()}"
        return {"report": TrialReport(epoch, failure, worker, self._started, time.time(), self._seconds)}


class ConfigSearcher(Searcher):
    """Gives Tune the configurations of the driver, one when there is room for a trial."""

    def __init__(self, next_config: NextConfig) -> None:
        super().__init__()
        self._next_config = next_config

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its parts with the experiment, which is never read; the driver cannot be pickled

    def suggest(self, trial_id: str) -> Any:
        """The next configuration."""
        config = self._next_config()
        return Searcher.FINISHED if config is None else {"trial": config}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the driver has the trial's reports."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""


class ReportScheduler(FIFOScheduler):
    """Passes each report to the driver, and stops the trials that the driver closes."""

    def __init__(self, on_report: OnReport) -> None:
        super().__init__()
        self._on_report = on_report

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the driver whether the trial continues."""
        stop = self._on_report(trial.config["trial"], result["report"])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class FailureCallback(tune.Callback):
    """Passes trials to the driver that failed more often than Tune repeats them."""

    def __init__(self, on_failure: OnFailure) -> None:
        self._on_failure = on_failure

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Pass on the texts of all failures of the trial; `get_error` reads a copy that is written later."""
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "no reason was given"
        self._on_failure(trial.config["trial"], text)


def run_trials(
    settings: TrialSettings,
    cluster: Cluster,
    *,
    name: str,
    trials: int,
    at_once: int,
    next_config: NextConfig,
    on_report: OnReport,
    on_failure: OnFailure,
    tensors: ray.ObjectRef | None = None,
) -> None:
    """Run trials as one Ray Tune job; the three functions are called in the driver.

    Args:
        settings: Shared by the trials.
        cluster: From `open_cluster`.
        name: Of the Tune job, unique among the jobs of this process.
        trials: Most trials to run.
        at_once: Most trials that exist at the same time.
        next_config: Gives the configuration of the next trial; None if there is none.
        on_report: Called with each report; returns whether the trial is to be stopped.
        on_failure: Called with the reasons of a trial that failed too often.
        tensors: Initial weights of a pretrained backbone.
    """
    tune.Tuner(
        _register_trainable(name, settings, [cluster.arrays, *([tensors] if tensors else [])]),
        tune_config=tune.TuneConfig(
            search_alg=ConfigSearcher(next_config),
            scheduler=ReportScheduler(on_report),
            num_samples=trials,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_name_creator=_name_trial,
            trial_dirname_creator=_name_trial,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(settings.folder.parent / "ray"),
            callbacks=[FailureCallback(on_failure)],
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials write their own
            verbose=0,
        ),
    ).fit()


def _name_trial(trial: Any) -> str:
    config: TrialConfig = trial.config["trial"]
    return f"{config.key.replace('/', '-')}-{'-'.join(str(fold) for fold in config.seeds)}-{trial.trial_id}"


def _register_trainable(job: str, settings: TrialSettings, inputs: list[ray.ObjectRef]) -> str:
    """Register the trainable under a name of its own and give the name.

    Tune keeps trainables and their parameters by class name in one registry of the process, without a lock; jobs run in
    parallel threads. The list of inputs keeps references as they are: bare ones Tune would resolve and store again.
    """
    name = f"{TrialRunner.__name__}_{job}"
    trainable = type(name, (TrialRunner,), {"__module__": TrialRunner.__module__})
    with _REGISTERING:
        bound = tune.with_parameters(trainable, settings=settings, inputs=inputs)
        tune.register_trainable(name, tune.with_resources(bound, {"cpu": settings.cpus, "gpu": settings.gpus}))
    return name
