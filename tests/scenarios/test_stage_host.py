"""The process that runs the stages of a command: its stages behave as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from osteo_models.core.settings import STAGE_HOST, load_settings
from osteo_models.ops.dvc_stages import start_host
from tests.conftest import ROOT

PACKAGE = f"""
__path__.append({str(ROOT / "pipelines")!r})
from pipelines.stage_host import run_in_host
run_in_host()
"""
STAGE = """
import os, sys, time
def probe():
    print(os.getpid(), os.environ["PROBE"], flush=True)
    time.sleep(60 * (os.environ["PROBE"] == "wait"))
    sys.exit(3)
"""
ENTRY = "def main(flow): flow()\n"  # instead of the one that needs Prefect

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one stage."""
    folder = tmp_path_factory.mktemp("hosted")
    files = {"__init__": PACKAGE, "probe": STAGE + "if __name__ == '__main__': probe()\n", "entry": ENTRY}
    (folder / "pipelines").mkdir()
    (folder / ".osteo").mkdir()
    for name, content in files.items():
        (folder / "pipelines" / f"{name}.py").write_text(content, encoding="utf-8")
    (folder / "dvc.yaml").write_text("stages: {probe: {cmd: python -m pipelines.probe}}\n", encoding="utf-8")
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts the stage as DVC does, connected to a host."""
    with start_host(load_settings(folder)) as host:

        def run(what: str, address: str | None = host) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "pipelines.probe"],
                cwd=folder,
                env={**os.environ, STAGE_HOST: str(address), "PROBE": what, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )

        yield run


def read(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The number of the process that runs the stage, and what it read from its environment."""
    assert process.stdout
    number, probe = process.stdout.readline().split()
    return int(number), probe


def test_stages_run_in_forks_of_the_host(start: Start) -> None:
    for probe in ("one", "two"):
        with start(probe) as process:
            number, found = read(process)
            assert number != process.pid and found == probe and process.wait(30) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_reach_the_stage(start: Start, number: int, code: int) -> None:
    with start("wait") as process:
        stage, _ = read(process)
        process.send_signal(number)
        assert process.wait(30) == code and not psutil.pid_exists(stage)


def test_a_stage_ends_with_the_process_that_waits_for_it(start: Start) -> None:
    with start("wait") as process:
        stage = psutil.Process(read(process)[0])
        process.kill()
        psutil.wait_procs([stage], 30)
        assert not stage.is_running()


def test_without_a_host_a_stage_is_a_process_of_its_own(start: Start) -> None:
    with start("alone", "/nowhere") as process:
        assert read(process) == (process.pid, "alone") and process.wait(30) == 3


def test_changed_code_is_imported_again(start: Start, folder: Path) -> None:
    with start("first") as process:
        process.wait(30)
    (folder / "pipelines" / "probe.py").touch()
    with start("second") as process:
        assert read(process) == (process.pid, "second")
