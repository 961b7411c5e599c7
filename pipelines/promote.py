"""`python -m pipelines.promote [NAME ...]`: put the challengers of all registered models, or of some, before the gate.

Exits 3 where one of them was refused; the others are promoted all the same.
"""

from __future__ import annotations

import sys

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import ConflictError, GateRefused, InputError
from osteo_models.registry.gate import promote as promote_version
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.versions import CHALLENGER, list_aliases
from pipelines.entry import main, say
from pipelines.reconcile import tag_flow_run


@task(task_run_name="promote {name}", cache_policy=NO_CACHE)
def promote_model(name: str, dry_run: bool, context: RunContext) -> str:
    """Judge the challenger of one model; returns why it was refused, nothing where it is champion."""
    try:
        promotion = promote_version(
            context.tracking,
            name,
            None,
            context.params.gate,
            journal=context.journal,
            author=context.author,
            dry_run=dry_run,
            settings=context.settings,
            data=context.params.data.path,
        )
    except (GateRefused, ConflictError) as error:
        say(f"  {error}")
        return error.found
    done = "would become" if dry_run and promotion.would_change else "is"
    say(f"  {name} version {promotion.version} {done} champion")
    return ""


@flow(name="promote", on_running=[tag_flow_run])
def promote(names: list[str], dry_run: bool = False) -> None:
    """Judge the challengers, one after another.

    Args:
        names: Registered models; none is all that have a challenger.
        dry_run: Judge, but change nothing.

    Raises:
        InputError: A name has no challenger.
        GateRefused: The gate refused one of them.
    """
    context = RunContext()
    known = sorted(list_aliases(context.tracking, CHALLENGER))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"no challenger of {', '.join(unknown)}", allowed=", ".join(known) or "none is registered yet")
    refused = [name for name in names or known if promote_model(name, dry_run, context)]
    if refused:
        raise GateRefused(f"{len(refused)} refused: {', '.join(refused)}", remedy="`osteo history NAME` shows why")


if __name__ == "__main__":
    main(lambda: promote(sys.argv[1:]))
