"""The state of a search: an Optuna study in a database, from which a search continues after a kill.

Each Optuna trial is a network that was drawn. One that is refused without training is closed at once and has the user
attribute `refused`; all others are candidates, and closed ones are COMPLETE, PRUNED or FAIL, with the balanced accuracy
of each epoch as intermediate value. optuna-dashboard shows the study as it is.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from osteo_models.core.errors import InputError
from osteo_models.core.search_params import SearchBudget, SearchSpace
from osteo_models.models.traditional import ARCHITECTURE, count_cost
from osteo_models.search.development import Development
from osteo_models.search.leaderboard import Record, Session, Timing
from osteo_models.search.space import PAPER, Proposal, draw, refuse
from osteo_models.search.study_storage import (
    count_refused,
    list_candidates,
    open_storage,
    open_study,
    read_record,
    read_sessions,
)
from osteo_models.training.fold import FoldRows
from osteo_models.training.identity import Versions, list_versions
from osteo_models.training.jobs import KEY_LENGTH
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import EpochReport, TrialConfig

VERSION: Final = 1  # of what a search finds; see `training.identity`
REDUCTION: Final = 3  # of ASHA: the best third of the candidates at a rung continues
MOST_REFUSED: Final = 200  # networks in a row; with more the space has nothing new


@dataclass(frozen=True)
class StudySpec:
    """Everything that decides what a search finds, except the number of candidates: with more, the study continues.

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
        """A seed for one purpose, independent of those for others."""
        content = hashlib.sha256(f"{self.seed} {purpose} {number}".encode()).digest()
        return int.from_bytes(content[:4], "little")

    def deal(self, development: Development) -> list[FoldRows]:
        """The folds on which all candidates are trained."""
        return development.deal(self.budget.folds, self.derive_seed("folds"))


def list_search_versions() -> Versions:
    """The versions of all code that computes what a search finds."""
    return {"search": VERSION, **list_versions(ARCHITECTURE, {})}


class Study:
    """A search's study; one process writes to it.

    Drawing is repeatable: the sampler of each draw is seeded by the search's seed and the number of networks drawn
    before, so that the next candidate depends on the stored results and not on when a process was killed.
    """

    def __init__(self, url: str, spec: StudySpec) -> None:
        self.spec, self._storage = spec, open_storage(url)
        self._study = open_study(self._storage, url, spec.key)
        # Optuna's ASHA, not Tune's: it reads its rungs from the study, which outlives a kill.
        self._study.pruner = optuna.pruners.SuccessiveHalvingPruner(
            max(1, spec.budget.epochs // REDUCTION**2), REDUCTION
        )
        self._interrupted = [trial.number for trial in self._all() if trial.state == TrialState.RUNNING]

    @property
    def folder(self) -> str:
        """Name of the folder of its checkpoints; a study of the same key in another storage has another one."""
        return f"{self.spec.key}-{self._study.user_attrs['token']}"

    def begin_session(self, slots: int) -> float:
        """Store that the search's process starts now; gives the start, which names the session."""
        session = Session(time.time(), slots)
        self._study.set_user_attr("sessions", [asdict(earlier) for earlier in (*self.sessions(), session)])
        return session.started

    def sessions(self) -> list[Session]:
        """All starts of the search's process."""
        return read_sessions(self._study)

    def configure(self, record: Record) -> TrialConfig:
        """The configuration of a candidate's trial; seeds are the same for all candidates."""
        spec = self.spec
        recipe = replace(spec.recipe, learning_rate=record.learning_rate or spec.recipe.learning_rate)
        seeds = {fold: spec.derive_seed("weights", fold) for fold in range(spec.budget.folds)}
        key = f"{self.folder}/candidate-{record.number}"
        return TrialConfig(key, ARCHITECTURE, record.spec, recipe, seeds, spec.device)

    def count_left(self) -> int:
        """Number of candidates that are not closed yet, including those that are not drawn yet."""
        return self.spec.budget.candidates - sum(record.status != "running" for record in self.records())

    def next(self) -> Record | None:
        """The next candidate to train: first those that a kill interrupted, then new ones; None if there is none.

        Raises:
            InputError: Hundreds of networks in a row were refused.
        """
        while self._interrupted:
            number = self._interrupted.pop(0)
            if records := [record for record in self.records() if record.number == number]:
                return records[0]
        if len(list_candidates(self._study)) >= self.spec.budget.candidates:
            return None
        # The sampler draws value by value, and a database would commit each; it works on a copy in memory.
        copy = optuna.create_study(direction="maximize")
        copy.add_trials(self._all())
        for _ in range(MOST_REFUSED):
            if (record := self._draw(copy)) is not None:
                return record
        raise InputError(
            f"{MOST_REFUSED} networks in a row were refused as impossible, too costly or tried before",
            where="search.space",
            remedy="widen the space or lower the number of candidates; those that are finished are kept",
        )

    def take(self, number: int, report: EpochReport, timing: Timing) -> bool:
        """Store an epoch of a candidate, and close the candidate after its last epoch or if ASHA prunes it.

        Returns:
            Whether the candidate is closed.
        """
        trial, accuracies = self._open(number), self._all()[number].intermediate_values
        value = report.balanced_accuracy
        if report.epoch not in accuracies and value is not None:  # stored before a kill otherwise
            trial.report(value, report.epoch)
        # Candidate 0, the paper's network, is the yardstick: it is never pruned.
        if not report.finished and not (trial.should_prune() and number):
            return False
        self._set_attributes(trial, {"seconds_per_epoch": report.seconds_per_epoch, "timing": asdict(timing)})
        if report.finished:
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        return True

    def fail(self, number: int, reason: str, timing: Timing | None = None) -> None:
        """Close a candidate that cannot be trained."""
        attributes = {"reason": reason} | ({"timing": asdict(timing)} if timing else {})
        self._set_attributes(self._open(number), attributes)
        self._study.tell(number, state=TrialState.FAIL)

    def records(self) -> list[Record]:
        """The candidates in the order in which they were drawn."""
        return [read_record(trial) for trial in list_candidates(self._study)[: self.spec.budget.candidates]]

    def count_refused(self) -> dict[str, int]:
        """How many networks were refused: `impossible`, `too costly`, `tried before`."""
        return count_refused(self._study)

    def _draw(self, copy: optuna.Study) -> Record | None:
        """Draw a network and store it in the copy and, as one transaction, in the study; None if it is refused."""
        spec, drawn = self.spec, len(copy.get_trials(deepcopy=False))
        copy.sampler = optuna.samplers.TPESampler(seed=spec.derive_seed("draw", drawn))
        if not drawn:
            rate = {"learning_rate": spec.recipe.learning_rate} if spec.learning_rate else {}
            copy.enqueue_trial({**PAPER, **rate})
        trial = copy.ask()
        state, attributes = self._judge(draw(trial, spec.space, spec.learning_rate))
        if state != TrialState.RUNNING:
            copy.tell(trial, state=state)
        frozen = copy.get_trials(deepcopy=False)[trial.number]
        self._study.add_trial(
            optuna.create_trial(
                state=state, params=frozen.params, distributions=frozen.distributions, user_attrs=attributes
            )
        )
        return read_record(self._all()[trial.number]) if state == TrialState.RUNNING else None

    def _judge(self, proposal: Proposal) -> tuple[TrialState, dict[str, Any]]:
        """The state in which a network is stored, and its attributes."""
        if (reason := refuse(proposal, self.spec.budget)) is not None:
            return TrialState.PRUNED, {"refused": reason}  # the sampler learns from it
        for trial in list_candidates(self._study):
            if (trial.user_attrs["spec"], trial.params.get("learning_rate")) == (proposal.spec, proposal.learning_rate):
                reason = f"tried before: as candidate {trial.number}"
                return TrialState.FAIL, {"refused": reason}  # the sampler ignores it
        return TrialState.RUNNING, {"spec": dict(proposal.spec), **asdict(count_cost(**proposal.spec))}

    def _set_attributes(self, trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            trial.set_user_attr(name, value)

    def _open(self, number: int) -> optuna.Trial:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)
