"""Watching the processes of an import: who they were, and the most memory that one of them held."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil


class Watch:
    """Looks at the processes below this one while it is open.

    Attributes:
        grandchildren: Processes of the server that workers are forked from: the workers.
        peak_bytes: The most memory that any of them held at once.
    """

    def __init__(self, every_seconds: float = 0.1) -> None:
        self.grandchildren: set[int] = set()
        self.peak_bytes = 0
        self._every, self._end = every_seconds, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        own = psutil.Process()
        while not self._end.wait(self._every):
            try:
                for child in own.children():
                    for worker in child.children():
                        self.peak_bytes = max(self.peak_bytes, _peak(worker.pid))
                        self.grandchildren.add(worker.pid)
            except (psutil.NoSuchProcess, OSError):
                continue  # ended meanwhile


def _peak(pid: int) -> int:
    """The kernel's own record, so that nothing between two looks is missed."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return max((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), default=0)  # none: it ended
