"""`python -m pipelines.promote [NAME ...]`: put the challengers of all registered models, or of some, before the gate.

Exits 3 where one of them was refused; the others are promoted all the same.
"""

from __future__ import annotations

import sys

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import ConflictError, GateRefused, InputError
from osteo_models.core.params import PARAMS_FILE, Params, load_params
from osteo_models.core.settings import Settings, load_settings
from osteo_models.registry.gate import promote as promote_version
from osteo_models.registry.journal import open_journal
from osteo_models.registry.journal_events import read_author
from osteo_models.registry.lookup import CHALLENGER, list_aliases
from osteo_models.registry.tracking import Tracking, open_tracking
from pipelines.entry import main, say
from pipelines.reconcile import sign


@task(task_run_name="promote {name}", cache_policy=NO_CACHE)
def promote_model(name: str, dry_run: bool, params: Params, settings: Settings, tracking: Tracking) -> str:
    """Judge the challenger of one model; returns why it was refused, nothing where it is champion."""
    try:
        promotion = promote_version(
            tracking,
            name,
            None,
            params.gate,
            journal=open_journal(settings.journal_uri),
            author=read_author(settings),
            dry_run=dry_run,
            settings=settings,
            data=params.data.path,
        )
    except (GateRefused, ConflictError) as error:
        say(f"  {error}")
        return error.found
    done = "would become" if dry_run and promotion.would_change else "is"
    say(f"  {name} version {promotion.version} {done} champion")
    return ""


@flow(name="promote", on_running=[sign])
def promote(names: list[str], dry_run: bool = False) -> None:
    """Judge the challengers, one after another.

    Args:
        names: Registered models; none is all that have a challenger.
        dry_run: Judge, but change nothing.

    Raises:
        InputError: A name has no challenger.
        GateRefused: The gate refused one of them.
    """
    settings = load_settings()
    params = load_params(settings.root / PARAMS_FILE)
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    known = sorted(list_aliases(tracking, CHALLENGER))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"no challenger of {', '.join(unknown)}", allowed=", ".join(known) or "none is registered yet")
    refused = [name for name in names or known if promote_model(name, dry_run, params, settings, tracking)]
    if refused:
        raise GateRefused(f"{len(refused)} refused: {', '.join(refused)}", remedy="`osteo history NAME` shows why")


if __name__ == "__main__":
    main(lambda *_: promote(sys.argv[1:]))
