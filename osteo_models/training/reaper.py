"""Ends what a killed driver leaves of its local Ray.

Ray's agents notice that their node is gone, and then try for a minute to tell a server that is gone as well. A small
process waits beside the driver for its end, whatever that is, and ends them. Linux only; run by its path, with nothing
but the standard library: `python -I -S reaper.py FOLDER PID`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.2
LOOKS: Final = 3  # that find nothing, one after another: a process may have been about to start another


@contextlib.contextmanager
def reap(folder: Path) -> Iterator[None]:
    """Should this process be killed in this context, have all processes of its Ray session ended.

    Args:
        folder: Ray's temporary folder.
    """
    if sys.platform != "linux":
        yield
        return
    command = [sys.executable, "-I", "-S", __file__, str(folder), str(os.getpid())]
    # A session of its own: Ctrl-C and a closed terminal end the driver, and not this one.
    null = subprocess.DEVNULL  # a reader of the driver's output waits for no other process
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True) as reaper:
        try:
            yield
        finally:
            reaper.kill()


def find_session(folder: str, driver: int) -> Iterator[int]:
    """The processes of the Ray session that a driver started: each writes a log of it, open from its first moment on.

    Whoever reads one, as `tail` does, is none of them.
    """
    begin, end = f"{folder}/session_", f"_{driver}/"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):  # of another user, or it has just ended
                links = {link.name: str(link.readlink()) for link in (process / "fd").iterdir()}
                logs = [number for number, name in links.items() if name.startswith(begin) and end in name]
                if any(_is_written(process / "fdinfo" / number) for number in logs):
                    yield int(process.name)


def _is_written(about: Path) -> bool:
    """Whether an open file is open for writing, as proc(5) tells it: by flags in octal, the last two bits not zero."""
    (flags,) = [line for line in about.read_text().splitlines() if line.startswith("flags:")]
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _main(folder: str, driver: int) -> None:
    sys.stdin.buffer.read()  # nothing is ever written: it ends when the driver does
    deadline, quiet = time.monotonic() + SECONDS, 0
    while quiet < LOOKS and time.monotonic() < deadline:
        quiet += 1
        for process in find_session(folder, driver):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                quiet = 0
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
