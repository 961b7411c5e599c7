"""How a flow is run from the command line: settings in, one line and an exit code out."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import httpx

from osteo_models.core.errors import OsteoError, StoreError
from osteo_models.core.processes import is_full, name_process
from osteo_models.core.settings import ERROR_FILE, die_with_parent
from osteo_models.registry.run_context import RunContext
from pipelines.interrupt import farewell, stop_on_signals
from pipelines.reconcile import find_lost, mark_crashed, reconcile, signed
from pipelines.server import use_server

Flow = Callable[[RunContext], object]


def main(flow: Flow) -> None:
    """Run a flow as a DVC stage does, and exit: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C.

    A Prefect flow makes its run context itself: Prefect stores its parameters, and settings hold passwords.
    """
    context = RunContext()
    settings = context.settings
    stop_on_signals()
    if settings.die_with_parent:
        die_with_parent(signal.SIGINT)
    try:
        _run(flow, context)
    except OsteoError as error:
        _tell(error)
    except httpx.TransportError as error:
        remedy = "start it with `osteo up`, or unset PREFECT_API_URL; then run the same command again"
        _tell(StoreError(f"Prefect's server does not answer ({error})", where="PREFECT_API_URL", remedy=remedy))
    except Exception as error:
        if not is_full(settings.state):
            raise
        remedy = "free some space, then run the same command again: what is finished is kept"
        _tell(OsteoError(f"no space is left ({type(error).__name__})", where=str(settings.state), remedy=remedy))


def _run(flow: Flow, context: RunContext) -> None:
    _ = context.params  # a fault in params.yaml is reported before a server starts
    with use_server(context.settings), farewell(_crash), signed():
        for lost in reconcile():
            say(f"  flow run {lost.flow} had lost its process: marked as crashed")
        flow(context)


def _tell(error: OsteoError) -> NoReturn:
    if told := os.environ.get(ERROR_FILE):  # whoever runs the stages tells it, once, in the end
        Path(told).write_text(json.dumps({"text": str(error), "exit_code": error.exit_code}), encoding="utf-8")
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def _crash() -> None:
    own = name_process()
    for lost in find_lost(ended={own}):
        if lost.process == own:
            mark_crashed(lost, "stopped; the same command goes on where it was")


def say(text: str) -> None:
    """Print one plain line."""
    click.echo(text)
