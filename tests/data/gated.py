"""Processes that change a data set and stop at one point until they are released."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import contextlib, fcntl, os, sys
from pathlib import Path
from osteo_models.data.intake.dataset import Staging

def stop():
    print("here", flush=True)
    sys.stdin.readline()

def stop_once(function, applies=lambda *_: True):
    stopped = []
    def gated(*arguments, **options):
        if not stopped and applies(*arguments):
            stopped.append(True)
            stop()
        return function(*arguments, **options)
    return gated

if __name__ == "__main__":
    gate, work, data, *arguments = sys.argv[1:]
    if gate == "lock":  # before the lock is taken
        Staging.lock = stop_once(Staging.lock)
    elif gate == "flock":  # after the lock file is opened, before it is locked
        fcntl.flock = stop_once(fcntl.flock)
    elif gate == "exchange":  # between the two renames
        os.rename = stop_once(os.rename, lambda source, _: Path(source).name == "ready")
    if work == "hold":
        with Staging(Path(data)).lock():
            stop()
    elif work == "withdraw":
        from osteo_models.data.withdrawal import withdraw_patient
        withdraw_patient(Path(data), arguments[0])
    elif work == "import":
        from osteo_models.data.intake.importer import import_source
        from tests.data.intake_files import KEY
        import_source(Path(arguments[0]), Path(arguments[1]), Path(data), KEY)
"""


class Gated:
    """A process of its own that does some work and stops once.

    Args:
        folder: For the program's file.
        gate: `lock`, `flock` or `exchange`.
        work: `withdraw` (a patient), `import` (source, clinical table) or `hold` (stops again while it has the lock).
        data: The data set.
    """

    def __init__(self, folder: Path, gate: str, work: str, data: Path, *arguments: object) -> None:
        program = folder / "gated.py"
        program.write_text(PROGRAM)
        self._process = subprocess.Popen(
            [sys.executable, program, gate, work, data, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it stops."""
        assert self._process.stdout and self._process.stdout.readline() == "here\n", self._process.communicate()[1]

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> str:
        """Let it go on to its end; the last line of what it raised, empty where it succeeded."""
        self.go()
        _, errors = self._process.communicate()
        return errors.strip().splitlines()[-1] if self._process.returncode else ""
