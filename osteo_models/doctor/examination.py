"""Every check, run side by side; and what is safe to mend, mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from osteo_models.doctor import leftovers, machine, records, servers, versions, work
from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.errors import OsteoError
from osteo_models.params import PARAMS_FILE, load_params
from osteo_models.registry.journal import open_journal
from osteo_models.registry.tracking import open_tracking
from osteo_models.settings import Settings

CHECKS: Final[tuple[Check, ...]] = (
    *records.CHECKS,
    *work.CHECKS,
    *servers.CHECKS,
    *versions.CHECKS,
    *machine.CHECKS,
    *leftovers.CHECKS,
)
T = TypeVar("T")


def examine(settings: Settings) -> list[Ailment]:
    """Run every check; what is wrong, in the order of the checks."""
    ailments: list[Ailment] = []

    def attempt(name: str, open_it: Callable[[], T]) -> T | None:
        try:
            return open_it()
        except OsteoError as error:
            found = error.found + (f" ({error.allowed})" if error.allowed else "")
            ailments.append(Ailment(error.where or name, found, error.remedy))
            return None

    file = settings.root / PARAMS_FILE
    params = attempt(PARAMS_FILE, lambda: load_params(file)) if file.exists() else None
    tracking = attempt("store", lambda: open_tracking(settings.tracking_uri, settings.state / "mlartifacts"))
    journal = attempt("journal", lambda: open_journal(settings.journal_uri)) if tracking else None
    project = Project(settings, params, tracking, journal)
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        for found in pool.map(lambda check: _run(check, project), CHECKS):
            ailments += found
    return ailments


def _run(check: Check, project: Project) -> list[Ailment]:
    """A check that cannot look is an ailment, and stops no other."""
    try:
        return list(check(project))
    except OsteoError as error:
        return [Ailment(error.where or check.__name__, error.found, error.remedy)]


def mend(ailments: Sequence[Ailment]) -> tuple[list[str], list[Ailment]]:
    """Put right what is safe.

    Returns:
        What was done, and the ailments that are left.
    """
    done: list[str] = []
    left: list[Ailment] = []
    for ailment in ailments:
        if ailment.mend is None:
            left.append(ailment)
            continue
        try:
            done.append(f"{ailment.where}: {ailment.mend()}")
        except (OsteoError, OSError) as error:
            left.append(Ailment(ailment.where, f"{ailment.found}; it could not be mended ({error})", ailment.remedy))
    return done, left
