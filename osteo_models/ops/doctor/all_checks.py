"""Runs all checks in parallel, and fixes the problems that are safe to fix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psutil

from osteo_models.core.errors import OsteoError
from osteo_models.core.params import PARAMS_FILE
from osteo_models.ops.doctor import leftover_checks, lock_checks, machine_checks, server_checks, store_checks
from osteo_models.ops.doctor.problem import Check, Problem, Project
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


def find_problems(context: RunContext) -> list[Problem]:
    """Run all checks; returns the problems in the order of the checks, without duplicates."""
    problems: list[Problem] = []

    def attempt(name: str, open_it: Callable[[], T]) -> T | None:
        try:
            return open_it()
        except (OsteoError, OSError) as error:
            problems.append(_explain(name, error))
            return None

    present = (context.settings.root / PARAMS_FILE).exists()
    params = attempt(PARAMS_FILE, lambda: context.params) if present else None
    tracking = attempt("store", lambda: context.tracking)
    journal = attempt("journal", lambda: context.journal) if tracking else None
    project = Project(context.settings, params, tracking, journal)
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        for found in pool.map(lambda check: _run(check, project), CHECKS):
            problems += found
    return list(dict.fromkeys(problems))  # a store that refuses a password does so to every check


def _run(check: Check, project: Project) -> list[Problem]:
    """Run a check; an error that stops it is a problem too, and the problems before the error are kept."""
    found: list[Problem] = []
    try:
        for problem in check(project):
            found.append(problem)  # one by one: the check may fail half-way
    except (OsteoError, OSError, ValueError, psutil.Error) as error:
        found.append(_explain(check.__name__.removeprefix("check_").replace("_", " "), error))
    return found


def _explain(name: str, error: Exception) -> Problem:
    if not isinstance(error, OsteoError):
        return Problem(name, f"could not look ({error})", AGAIN)
    found = error.found + (f" ({error.allowed})" if error.allowed else "")
    return Problem(error.where or name, found, error.remedy)


def fix_problems(problems: Sequence[Problem]) -> tuple[list[str], list[Problem]]:
    """Fix what is safe to fix.

    Returns:
        What was done, and the problems that remain.
    """
    done: list[str] = []
    left: list[Problem] = []
    for problem in problems:
        if problem.fix is None:
            left.append(problem)
            continue
        try:
            done.append(f"{problem.where}: {problem.fix()}")
        except (OsteoError, OSError, psutil.Error) as error:
            left.append(Problem(problem.where, f"{problem.found}; it could not be fixed ({error})", problem.remedy))
    return done, left
