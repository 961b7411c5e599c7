"""Every check, run side by side; and what is safe to mend, mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psutil

from osteo_models.core.errors import OsteoError
from osteo_models.core.params import PARAMS_FILE
from osteo_models.ops.doctor import leftover_checks, lock_checks, machine_checks, server_checks, store_checks
from osteo_models.ops.doctor.problem import Ailment, Check, Project
from osteo_models.registry.run_context import RunContext

CHECKS: Final[tuple[Check, ...]] = (
    *store_checks.CHECKS,
    *server_checks.CHECKS,
    *machine_checks.CHECKS,
    *leftover_checks.CHECKS,
    *lock_checks.CHECKS,
)
AGAIN: Final = "run `osteo doctor` again; should it stay, look there by hand"
T = TypeVar("T")


def examine(context: RunContext) -> list[Ailment]:
    """Run every check; what is wrong, in the order of the checks, and each thing once."""
    ailments: list[Ailment] = []

    def attempt(name: str, open_it: Callable[[], T]) -> T | None:
        try:
            return open_it()
        except (OsteoError, OSError) as error:
            ailments.append(_explain(name, error))
            return None

    present = (context.settings.root / PARAMS_FILE).exists()
    params = attempt(PARAMS_FILE, lambda: context.params) if present else None
    tracking = attempt("store", lambda: context.tracking)
    journal = attempt("journal", lambda: context.journal) if tracking else None
    project = Project(context.settings, params, tracking, journal)
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        for found in pool.map(lambda check: _run(check, project), CHECKS):
            ailments += found
    return list(dict.fromkeys(ailments))  # a store that refuses a password does so to every check


def _run(check: Check, project: Project) -> list[Ailment]:
    """A check that cannot look is an ailment, and stops no other; what it found until then stays."""
    found: list[Ailment] = []
    try:
        for ailment in check(project):
            found.append(ailment)  # one by one: the check may fail half-way
    except (OsteoError, OSError, ValueError, psutil.Error) as error:
        found.append(_explain(check.__name__.removeprefix("check_").replace("_", " "), error))
    return found


def _explain(name: str, error: Exception) -> Ailment:
    if not isinstance(error, OsteoError):
        return Ailment(name, f"could not look ({error})", AGAIN)
    found = error.found + (f" ({error.allowed})" if error.allowed else "")
    return Ailment(error.where or name, found, error.remedy)


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
        except (OsteoError, OSError, psutil.Error) as error:
            left.append(Ailment(ailment.where, f"{ailment.found}; it could not be mended ({error})", ailment.remedy))
    return done, left
