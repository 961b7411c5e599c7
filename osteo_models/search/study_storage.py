"""Optuna's storage of studies, and what is read from it.

The user attributes of a study: `token`, `sessions`; of a candidate: `parameters`, `macs`, `spec`, in the end
`seconds_per_epoch`, `timing`, `reason`; of a network that is no candidate: `refused`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from osteo_models.core.errors import InputError, StoreError
from osteo_models.models.traditional import ARCHITECTURE
from osteo_models.search.leaderboard import Record, Session, Status, Timing

FILE: Final = "search.db"
PREFIX: Final = f"{ARCHITECTURE}-"  # of the names of studies
PATIENCE_SECONDS: Final = 60  # a dashboard that reads holds a SQLite file for moments only
STATUS: Final[Mapping[TrialState, Status]] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def storage_url(state: Path, setting: str | None) -> str:
    """The address of the storage: the one given, or a file under `.osteo/`."""
    return setting or f"sqlite:///{state / FILE}"


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at an address; a folder for a SQLite file is made.

    Raises:
        StoreError: The storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings: dict[str, Any] = {"poolclass": NullPool}  # a command that reads once leaves no connection open
    with explain_storage(url):
        if url.startswith("sqlite"):
            settings["connect_args"] = {"timeout": PATIENCE_SECONDS}
            Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(url, engine_kwargs=settings)


def open_study(storage: optuna.storages.RDBStorage, url: str, key: str) -> optuna.Study:
    """The study of a search, made if there is none.

    Raises:
        StoreError: The storage cannot be used.
    """
    with explain_storage(url):
        study = optuna.create_study(
            storage=storage, study_name=f"{PREFIX}{key}", direction="maximize", load_if_exists=True
        )
        if "token" not in study.user_attrs:
            study.set_user_attr("token", secrets.token_hex(4))
        return study


def find_latest(url: str) -> optuna.Study:
    """The study with the newest session.

    Raises:
        InputError: There is none.
        StoreError: The storage cannot be used.
    """
    with explain_storage(url):
        file = make_url(url).database if url.startswith("sqlite") else None
        studies: list[optuna.Study] = []
        if file is None or Path(file).is_file():  # reading must not make the file
            storage = open_storage(url)
            names = [name for name in optuna.get_all_study_names(storage) if name.startswith(PREFIX)]
            studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        begun = [study for study in studies if study.user_attrs.get("sessions")]
        if not begun:
            raise InputError("no search has run", where=hide_password(url), remedy="run `osteo search`")
        return max(begun, key=lambda study: study.user_attrs["sessions"][-1]["started"])


def read_sessions(study: optuna.Study) -> list[Session]:
    """All starts of the search's process."""
    return [Session(**session) for session in study.user_attrs.get("sessions", [])]


def list_candidates(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that were admitted, in the order in which they were drawn."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state in STATUS and "refused" not in trial.user_attrs]


def read_record(trial: FrozenTrial) -> Record:
    """The state of a candidate."""
    attributes = trial.user_attrs
    return Record(
        number=trial.number,
        status=STATUS[trial.state],
        spec=attributes["spec"],
        learning_rate=trial.params.get("learning_rate"),
        values=dict(trial.intermediate_values),
        macs=attributes["macs"],
        parameters=attributes["parameters"],
        seconds_per_epoch=attributes.get("seconds_per_epoch"),
        reason=attributes.get("reason", ""),
        timing=Timing(**attributes["timing"]) if "timing" in attributes else None,
    )


def count_refused(study: optuna.Study) -> dict[str, int]:
    """How many networks were refused without training, by the first words of the reason."""
    reasons = [trial.user_attrs.get("refused") for trial in study.get_trials(deepcopy=False)]
    heads = [reason.partition(":")[0] for reason in reasons if reason]
    return {head: heads.count(head) for head in ("impossible", "too costly", "tried before")}


@contextmanager
def explain_storage(url: str) -> Iterator[None]:
    """Turn Optuna's and the database's exceptions into a StoreError that names the storage.

    Raises:
        StoreError: what was raised inside.
    """
    try:
        yield
    except (OptunaError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        found = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        remedy = "check `search.storage` in params.yaml, or OSTEO_SEARCH_STORAGE, and that the database is up"
        raise StoreError(found, where=hide_password(url), remedy=remedy) from error


def hide_password(url: str) -> str:
    """An address that may be shown."""
    return make_url(url).render_as_string(hide_password=True)
