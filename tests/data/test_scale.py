"""What ten times the files cost, and a data set of 20,000; the figures are printed: `pytest -m slow -s`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml

from tests.data.many_files import write_export
from tests.data.storage_server import BUCKET, serve_storage
from tests.data.test_remotes import dvc, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FILES, COUNTS = 20_000, (20, 400, 4000)  # the first one for the start alone
OSTEO = (sys.executable, "-c", "from osteo_models.cli.main import main; main()")


def say(text: str) -> None:
    """A line of the figures."""
    sys.stdout.write(f"{text}\n")


@dataclass
class Cost:
    """CPU seconds and the largest resident memory of a command and of everything that it started."""

    cpu: dict[int, float] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)

    def look(self, process: psutil.Process) -> None:
        """Take what a process has used so far: both only grow."""
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            times = process.cpu_times()
        except (OSError, psutil.Error):
            return
        if "VmHWM" in status:
            self.cpu[process.pid] = times.user + times.system
            self.memory[process.pid] = int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure_import(folder: Path) -> tuple[Cost, dict]:
    """Import an export in a process of its own, one worker."""
    command = ["data", "import", "export", "--clinical", "people.csv", "--key", "private/key", "--workers", "1"]
    cost = Cost()
    with subprocess.Popen([*OSTEO, *command, "--json"], cwd=folder, stdout=subprocess.PIPE, text=True) as started:
        process = psutil.Process(started.pid)
        while started.poll() is None:
            for each in (process, *process.children(recursive=True)):
                cost.look(each)
            time.sleep(0.02)
        assert started.stdout is not None
        return cost, json.loads(started.stdout.read())


def test_ten_times_the_files_take_ten_times_the_time_and_the_same_memory(tmp_path):
    seconds, largest = [], []
    for count in COUNTS:
        folder = tmp_path / str(count)
        write_export(folder, count)
        cost, found = measure_import(folder)
        assert found["images"] == found["accepted"] == count
        seconds.append(sum(cost.cpu.values()))
        largest.append(sorted(cost.memory.values())[-2:])  # the command's own process, and its worker
        peaks = ", ".join(f"{peak / 1e6:.0f} MB" for peak in sorted(cost.memory.values()))
        say(f"\n{count:>6,} files: {seconds[-1]:.1f} s of CPU; most memory of each process: {peaks}")
    each = [(seconds[n] - seconds[0]) / (COUNTS[n] - COUNTS[0]) for n in (1, 2)]
    say(f"  without the start: {1000 * each[0]:.2f} and {1000 * each[1]:.2f} ms of CPU a file")
    assert each[1] < 1.3 * each[0]
    assert all(many < 1.2 * few for few, many in zip(largest[1], largest[2], strict=True))


def timed(folder: Path, *arguments: str, **variables: str) -> str:
    """Run a DVC command, and say what it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    said = dvc(folder, *arguments, **variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.monotonic() - began
    say(f"  dvc {' '.join(arguments):<22} {cpu:6.1f} s of CPU {wall:6.1f} s wall, load {os.getloadavg()[0]:.1f}")
    return said


def test_twenty_thousand_files_are_one_directory(tmp_path):
    root = tmp_path / "project"
    write_export(root, FILES)
    (root / "export").rename(root / "data")
    run(root, "git", "init", "-q")
    dvc(root, "init", "-q")
    dvc(root, "config", "core.analytics", "false")
    say(f"\n{FILES:,} files")
    timed(root, "add", "data")
    (out,) = yaml.safe_load((root / "data.dvc").read_text())["outs"]
    assert out["nfiles"] == FILES and out["md5"].endswith(".dir")  # one entry, whatever it holds
    assert run(root, "git", "ls-files", "--others", "--exclude-standard", "--", "data", "*.dvc") == "data.dvc\n"
    assert "up to date" in timed(root, "status")
    dvc(root, "remote", "add", "-d", "folder", str(tmp_path / "store"))
    assert f"{FILES + 1} files pushed" in timed(root, "push", "-r", "folder")
    assert "up to date" in timed(root, "push", "-r", "folder").lower()
    (tmp_path / "s3").mkdir()
    with serve_storage(tmp_path / "s3") as storage:
        dvc(root, "remote", "add", "s3", f"s3://{BUCKET}/dvc")
        dvc(root, "remote", "modify", "s3", "endpointurl", storage.endpoint)
        assert f"{FILES + 1} files pushed" in timed(root, "push", "-r", "s3", **storage.environment)
        assert "up to date" in timed(root, "push", "-r", "s3", **storage.environment).lower()
    (next((root / "data").iterdir()) / "000.dcm").unlink()
    timed(root, "add", "data")
    assert f"nfiles: {FILES - 1}" in (root / "data.dvc").read_text()
