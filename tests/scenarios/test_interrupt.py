"""A stopped stage runs its shutdown callbacks, reports how to continue, and waits for no thread."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

STAGE = """
import os, sys, threading, time
from pipelines.entry import exit_on_termination, on_shutdown, stop_on_signals

class Termination(BaseException):
    "As Prefect raises it."

def speak():
    os.write(1, b"callback\\n")  # the stage may have been stopped while it printed

stop_on_signals()
threading.Thread(target=time.sleep, args=[600]).start()
with on_shutdown(speak), on_shutdown(lambda: 1 / 0), exit_on_termination():
    print("ready", flush=True)
    if sys.argv[1:] == ["raise"]:
        raise Termination
    time.sleep(600)
"""


def stop(number: int, *arguments: str, **environment: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", STAGE, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr and process.stdout.readline() == "ready\n"
        if number:
            process.send_signal(number)
        # Not `communicate`, which loses what `readline` has buffered.
        output, errors = process.stdout.read(), process.stderr.read()
        return process.wait(60), output, errors  # its thread sleeps for ten minutes


@pytest.mark.parametrize(("number", "arguments"), [(signal.SIGINT, ()), (signal.SIGTERM, ()), (0, ("raise",))])
def test_a_stopped_stage(number, arguments) -> None:
    code, output, errors = stop(number, *arguments)
    assert code == 128 + (number or signal.SIGTERM)
    assert output == "callback\n"
    assert errors.endswith(
        f"stopped; what is finished is kept, and `{' '.join(['-c', *arguments])}` goes on from there\n"
    )


def test_who_runs_the_stages_tells_it(tmp_path) -> None:
    _, _, errors = stop(signal.SIGINT, OSTEO_ERROR_FILE=str(tmp_path / "error.json"))
    assert "stopped" not in errors
    _, _, errors = stop(signal.SIGINT, DVC_STAGE="experiments")
    assert "`dvc repro` goes on from there" in errors
    assert json.dumps(list(tmp_path.iterdir())) == "[]"
