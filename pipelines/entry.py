"""How a flow is run from the command line: settings in, one line and an exit code out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from osteo_models.errors import OsteoError
from osteo_models.params import Params, load_params
from osteo_models.servers import find_prefect
from osteo_models.settings import Settings, die_with_parent, load_settings

Flow = Callable[[Params, Settings], object]


def main(flow: Flow) -> None:
    """Run a flow as a DVC stage does, and exit: 0 done, 1 failed, 2 wrong input."""
    settings = load_settings()
    if settings.die_with_parent:
        die_with_parent()
    find_prefect(settings.state)
    try:
        flow(load_params(settings.root / "params.yaml"), settings)
    except OsteoError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def say(text: str) -> None:
    """Print one plain line."""
    click.echo(text)


class Progress:
    """Progress as a line that rewrites itself on a terminal, and as a plain line now and then elsewhere."""

    def __init__(self, what: str, every_seconds: float = 10) -> None:
        self._what, self._every, self._started, self._shown = what, every_seconds, time.monotonic(), 0.0
        self._terminal = sys.stdout.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` are finished."""
        now = time.monotonic()
        last = done >= total
        if not last and now - self._shown < (0.2 if self._terminal else self._every):
            return
        self._shown = now
        elapsed = now - self._started
        left = elapsed / done * (total - done) if done else 0.0
        text = f"  {self._what}: {done:,} of {total:,}, {elapsed:.0f} s" + (
            "" if last else f", about {left:.0f} s left"
        )
        click.echo(f"\r{text:<78}" if self._terminal else text, nl=last or not self._terminal)
