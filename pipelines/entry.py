"""How a flow is run from the command line: settings in, one line and an exit code out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from prefect.settings import PREFECT_API_URL, temporary_settings

from osteo_models.errors import OsteoError
from osteo_models.params import Params, load_params
from osteo_models.servers import find_prefect
from osteo_models.settings import ERROR_FILE, Settings, die_with_parent, load_settings

Flow = Callable[[Params, Settings], object]


def main(flow: Flow) -> None:
    """Run a flow as a DVC stage does, and exit: 0 done, 1 failed, 2 wrong input."""
    settings = load_settings()
    if settings.die_with_parent:
        die_with_parent()
    url = find_prefect(settings.state)
    try:
        # Prefect read its environment when it was imported; a server that `osteo up` started is told to it here.
        with temporary_settings({PREFECT_API_URL: url} if url else {}):
            flow(load_params(settings.root / "params.yaml"), settings)
    except OsteoError as error:
        if told := os.environ.get(ERROR_FILE):  # whoever runs the stages tells it, once, in the end
            Path(told).write_text(json.dumps({"text": str(error), "exit_code": error.exit_code}), encoding="utf-8")
        else:
            click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def say(text: str) -> None:
    """Print one plain line."""
    click.echo(text)
