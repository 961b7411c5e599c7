"""What a killed driver leaves of its Ray session is ended, and nothing else is; Ray itself is in the fault tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")

# A driver that starts what outlives it, each with a log open: one in its own session, one in another driver's.
DRIVER = """
import subprocess, sys, os, pathlib
from osteo_models.training.reaper import reap
place = pathlib.Path(sys.argv[1])
with reap(place):
    for number in (os.getpid(), 1):
        log = place / f"session_2026-01-01_{number}" / "logs" / "agent.log"
        log.parent.mkdir(parents=True)
        with log.open("w") as out:
            code = "import time; time.sleep(600)"
            agent = subprocess.Popen([sys.executable, "-c", code], stdout=out, start_new_session=True)
        print(agent.pid, flush=True)
    sys.stdin.readline()
"""
SECONDS = 60  # far longer than it takes, far shorter than what it ends would last


def start(place: Path) -> tuple[subprocess.Popen[str], list[int]]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(place)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout
    return driver, [int(driver.stdout.readline()) for _ in range(2)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("killed", [True, False])
def test_the_session_of_a_killed_driver_alone_is_ended(tmp_path: Path, killed: bool) -> None:
    driver, (own, other) = start(tmp_path)
    (reaper,) = [each for each in psutil.Process(driver.pid).children() if "reaper.py" in " ".join(each.cmdline())]
    (log,) = tmp_path.glob(f"session_*_{driver.pid}/logs/agent.log")
    with log.open() as read:
        reader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=read)
    try:
        with driver:
            if killed:
                driver.kill()
            else:
                driver.communicate("done\n")
        reaper.wait(SECONDS)  # one whose driver ends by itself ends with it
        assert is_running(own) != killed and is_running(other) and reader.poll() is None
    finally:
        reader.kill()
        reader.wait()
        for pid in (own, other):
            if is_running(pid):
                os.kill(pid, 9)
