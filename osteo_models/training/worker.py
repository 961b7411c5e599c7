"""What a worker process of a search runs; apart from the driver's side, so that a worker imports little."""

from __future__ import annotations

import os
import platform
import time
import traceback
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray import tune

from osteo_models.errors import OsteoError
from osteo_models.training.candidate import Candidate, Course, Step, warm_up
from osteo_models.training.failures import name_reason
from osteo_models.training.leaderboard import Timing
from osteo_models.training.shelf import check_reach
from osteo_models.training.trial import Arrays


class CandidateTrial(tune.Trainable):
    """A candidate as Tune sees it: an epoch of all its folds per step; the process is reused for the next one."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # what `with_parameters` adds
        self, config: dict[str, Any], *, course: Course, arrays: list[ray.ObjectRef]
    ) -> None:
        """Take the images out of the store, once for all candidates and folds, and begin."""
        check_reach(course.folder, course.shelf)
        found = ray.get(arrays[0])
        # The store's arrays are read-only, and each fit would copy such images for itself.
        self._arrays, self._course = Arrays(np.array(found.images), found.target, found.is_ct), course
        warm_up(course, self._arrays)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next candidate without a new process."""
        self._next, self._candidate = new_config, None
        self._started, self._seconds = time.time(), 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch; a candidate that cannot be trained says why."""
        found = dict[str, Any]()
        try:
            step = self._advance()
            self._seconds += step.seconds
            found |= asdict(step)
        except OsteoError as error:
            self._candidate, found["failed"] = None, str(error)
        except (RuntimeError, MemoryError) as error:  # PyTorch tells of missing memory as a RuntimeError
            self._candidate, found["failed"] = None, name_reason("".join(traceback.format_exception_only(error)))
        worker = f"{platform.node()}-{os.getpid()}"
        timing = Timing(self._next["session"], worker, self._started, time.time(), self._seconds)
        return {"candidate": self._next["candidate"], **asdict(timing), **found}

    def _advance(self) -> Step:
        if self._candidate is None:
            spec, rate = self._next["spec"], self._next["learning_rate"]
            self._candidate = Candidate(self._course, self._arrays, self._next["candidate"], spec, rate)
        return self._candidate.advance()
