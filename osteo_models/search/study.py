"""The search's memory: an Optuna study in a database, from which a search goes on after a kill.

Each Optuna trial is a network that was drawn. One that is refused untrained is closed at once and carries the user
attribute `refused`; all others are candidates, and finished ones are COMPLETE, PRUNED or FAIL, with the balanced
accuracy of each epoch as intermediate value. optuna-dashboard opens the study as it is.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from osteo_models.core.errors import InputError
from osteo_models.core.search_params import SearchBudget, SearchSpace
from osteo_models.models.traditional import count_cost
from osteo_models.search.candidate import ARCHITECTURE, Step
from osteo_models.search.leaderboard import Record, Session, Timing
from osteo_models.search.space import PAPER, Proposal, draw, refuse
from osteo_models.search.study_storage import count_refused, list_candidates, read_record, read_sessions
from osteo_models.training.identity import Versions, list_versions
from osteo_models.training.jobs import KEY_LENGTH
from osteo_models.training.recipe import Recipe

VERSION: Final = 1  # of what a search finds; see `training.identity`
REDUCTION: Final = 3  # of ASHA: the best third of those that reached a rung goes on
MOST_REFUSED: Final = 200  # in a row; more, and the space holds nothing new


@dataclass(frozen=True)
class Design:
    """Everything that decides what a search finds, save for the number of candidates: raised, the study goes on.

    Attributes:
        recipe: With the precision resolved, and the budget's epochs.
        inputs: Hashes of the development set and of its folds, from `Development.digest_inputs`.
        versions: Versions of the code that computes what it finds, from `list_search_versions`.
    """

    space: SearchSpace
    budget: SearchBudget
    learning_rate: tuple[float, float] | None
    recipe: Recipe
    seed: int
    threads: int
    device: str
    inputs: Mapping[str, str]
    versions: Mapping[str, int | str]

    @property
    def key(self) -> str:
        """Hash of all that."""
        content = asdict(self) | {"space": self.space.model_dump(), "budget": self.budget.model_dump()}
        content["budget"].pop("candidates")
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def derive_seed(self, purpose: str, number: int = 0) -> int:
        """A seed for one purpose, which says nothing about those for others."""
        content = hashlib.sha256(f"{self.seed} {purpose} {number}".encode()).digest()
        return int.from_bytes(content[:4], "little")


def list_search_versions() -> Versions:
    """The versions of all code that computes what a search finds."""
    return {"search": VERSION, **list_versions(ARCHITECTURE, {})}


class Study:
    """A search's study; one process writes to it.

    Drawing is repeatable: the sampler of each draw is seeded by the search's seed and the number of networks drawn
    before, so that what comes next hangs on what is known and not on when a process was killed.
    """

    def __init__(self, study: optuna.Study, design: Design) -> None:
        self._study, self._design = study, design
        epochs = design.budget.epochs
        # Optuna's ASHA, not Tune's: it keeps its rungs in the study, where a kill does not reach them.
        self._study.pruner = optuna.pruners.SuccessiveHalvingPruner(max(1, epochs // REDUCTION**2), REDUCTION)
        # Left behind by a kill.
        self._left = [trial.number for trial in self._all() if trial.state == TrialState.RUNNING]

    @property
    def token(self) -> str:
        """Of this study alone: another one of the same key, in another storage, must not find its checkpoints."""
        return str(self._study.user_attrs["token"])

    def begin_session(self, slots: int) -> float:
        """Note that the search's process starts now; gives the session's name."""
        session = Session(time.time(), slots)
        self._study.set_user_attr("sessions", [asdict(each) for each in (*self.sessions(), session)])
        return session.started

    def sessions(self) -> list[Session]:
        """All starts of the search's process."""
        return read_sessions(self._study)

    def count_left(self) -> int:
        """Candidates that have no end yet, those not drawn yet included."""
        return self._design.budget.candidates - sum(record.status != "running" for record in self.records())

    def next(self) -> Record | None:
        """The next candidate to train: those that a kill left first, then a new one; None where there is none.

        Raises:
            InputError: hundreds of networks in a row were refused.
        """
        while self._left:
            number = self._left.pop(0)
            if (found := next((record for record in self.records() if record.number == number), None)) is not None:
                return found
        if len(list_candidates(self._study)) >= self._design.budget.candidates:
            return None
        # The sampler draws value by value, each of which a database would commit; it is given a copy in memory.
        copy = optuna.create_study(direction="maximize")
        copy.add_trials(self._all())
        for _ in range(MOST_REFUSED):
            if (found := self._draw(copy)) is not None:
                return found
        raise InputError(
            f"{MOST_REFUSED} networks in a row were refused as impossible, too costly or tried before",
            where="search.space",
            remedy="widen the space or lower the number of candidates; those that are finished are kept",
        )

    def take(self, number: int, step: Step, timing: Timing) -> bool:
        """Note an epoch of a candidate, and close it where it was its last one or ASHA stops it.

        Returns:
            Whether the candidate is closed.
        """
        trial = self._open(number)
        if step.epoch not in self._all()[number].intermediate_values:  # known from before a kill otherwise
            trial.report(step.balanced_accuracy, step.epoch)
        last = step.epoch >= self._design.budget.epochs
        # The paper's network, number 0, is the yardstick: it goes all the way.
        if not last and not (trial.should_prune() and number):
            return False
        self._note(number, {"seconds_per_epoch": step.seconds_per_epoch, "timing": asdict(timing)})
        if last:
            self._study.tell(trial, step.balanced_accuracy)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        return True

    def fail(self, number: int, reason: str, timing: Timing | None = None) -> None:
        """Close a candidate that cannot be trained."""
        self._note(number, {"reason": reason} | ({"timing": asdict(timing)} if timing else {}))
        self._study.tell(number, state=TrialState.FAIL)

    def records(self) -> list[Record]:
        """The candidates in the order in which they were drawn."""
        return [read_record(trial) for trial in list_candidates(self._study)[: self._design.budget.candidates]]

    def count_refused(self) -> dict[str, int]:
        """How many networks were refused: `impossible`, `too costly`, `tried before`."""
        return count_refused(self._study)

    def _draw(self, copy: optuna.Study) -> Record | None:
        """Draw a network and note it in the copy and, as one transaction, in the study; None where it is refused."""
        design, drawn = self._design, len(copy.get_trials(deepcopy=False))
        copy.sampler = optuna.samplers.TPESampler(seed=design.derive_seed("draw", drawn))
        if not drawn:
            rate = {"learning_rate": design.recipe.learning_rate} if design.learning_rate else {}
            copy.enqueue_trial({**PAPER, **rate})
        trial = copy.ask()
        proposal = draw(trial, design.space, design.learning_rate)
        state, attributes = self._judge(trial.number, proposal)
        if state != TrialState.RUNNING:
            copy.tell(trial, state=state)
        frozen = copy.get_trials(deepcopy=False)[trial.number]
        noted = optuna.create_trial(
            state=state, params=frozen.params, distributions=frozen.distributions, user_attrs=attributes
        )
        self._study.add_trial(noted)
        return read_record(self._all()[trial.number]) if state == TrialState.RUNNING else None

    def _judge(self, number: int, proposal: Proposal) -> tuple[TrialState, dict[str, Any]]:
        """The state in which a network begins, and its attributes."""
        if (why := refuse(proposal, self._design.budget)) is not None:
            return TrialState.PRUNED, {"refused": why}  # the sampler learns from it
        for trial in list_candidates(self._study):
            if (trial.user_attrs["spec"], trial.params.get("learning_rate")) == (proposal.spec, proposal.learning_rate):
                why = f"tried before: as candidate {trial.number}"
                return TrialState.FAIL, {"refused": why}  # the sampler must not think ill of it
        return TrialState.RUNNING, {"spec": dict(proposal.spec), **asdict(count_cost(**proposal.spec))}

    def _note(self, number: int, attributes: Mapping[str, Any]) -> None:
        trial = self._open(number)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)

    def _open(self, number: int) -> optuna.Trial:
        # The constructor wants the trial's id in the storage, which has no public name.
        return optuna.Trial(self._study, self._all()[number]._trial_id)

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)
