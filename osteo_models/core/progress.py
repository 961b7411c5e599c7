"""Progress of long work: a line that rewrites itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

import click


class Progress:
    """Progress as a line that rewrites itself on a terminal, and as a plain line now and then elsewhere."""

    def __init__(self, what: str, every_seconds: float = 10, *, before: int = 0) -> None:
        self._before = before  # finished before this process began, and no measure of its pace
        self._what, self._every, self._started, self._shown = what, every_seconds, time.monotonic(), 0.0
        self._terminal = sys.stdout.isatty()

    def __call__(self, done: int, total: int, note: str = "", *, pace: tuple[float, float] | None = None) -> None:
        """Show that `done` of `total` are finished.

        Args:
            done: Items that are finished.
            total: All items.
            note: A few more words.
            pace: Work that this process has done and work that is left, where items differ in work.
        """
        now = time.monotonic()
        last = done >= total
        if not last and now - self._shown < (0.2 if self._terminal else self._every):
            return
        self._shown = now
        elapsed = now - self._started
        here, ahead = pace or (done - self._before, total - done)
        left = f", about {elapsed / here * ahead:.0f} s left" if here > 0 and not last else ""
        text = f"  {self._what}: {done:,} of {total:,}, {elapsed:.0f} s{left}" + (f"; {note}" if note else "")
        click.echo(f"\r{text:<78}" if self._terminal else text, nl=last or not self._terminal)
