"""An import killed anywhere: the data set is the old one or the new one, and the next run ends what was begun."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click
import pytest

from osteo_models.data.intake.importer import import_source
from tests.data.intake_files import IMPORT, KEY, as_bytes, make_dicom, tree


class Target:
    """A data set to be added to, and the import that adds to it."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.out, self.staging = folder, folder / "data", folder / ".data.importing"
        (folder / "run.py").write_text(IMPORT)
        self._command = [sys.executable, folder / "run.py", source, source.parent / "clinical.csv", self.out]
        self._environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}

    def start(self) -> subprocess.Popen[bytes]:
        """Start, and wait until there is something to disturb."""
        process = subprocess.Popen(self._command, env=self._environment, start_new_session=True)
        while not self.staging.exists() and process.poll() is None:
            time.sleep(0.002)
        return process

    def kill(self, seconds: float) -> bool:
        """Start, kill everything after a while, and tell whether it was still at work."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False

    def finish(self, whole: dict[str, bytes]) -> None:
        """Run to the end: the new data set is there, and nothing is left beside it."""
        assert self.start().wait() == 0
        assert tree(self.out) == whole
        assert [path.name for path in self.folder.iterdir() if path.is_dir()] == ["data"]

    def put(self, data: Path) -> None:
        """Begin anew from this data set."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        shutil.copytree(data, self.out)


def kill_and_go_on(source: Path, tmp_path: Path, kills: int, seed: int) -> Counter[str]:
    """SIGKILL imports at random moments of their work, and compare with one that nobody disturbed."""
    first = tmp_path / "first"
    first.mkdir()
    for path in sorted(source.iterdir())[:5]:
        shutil.copyfile(path, first / path.name)
    import_source(first, tmp_path / "clinical.csv", tmp_path / "older", KEY)
    older = tree(tmp_path / "older")
    (tmp_path / "target").mkdir()
    target = Target(tmp_path / "target", source)
    target.put(tmp_path / "older")
    process, started = target.start(), time.monotonic()
    assert process.wait() == 0
    seconds, whole = time.monotonic() - started, tree(target.out)
    assert len(whole) > len(older) and not target.staging.exists()
    rng, found = random.Random(seed), Counter[str]()
    target.put(tmp_path / "older")
    while sum(found.values()) < kills:
        killed = target.kill(rng.uniform(0, seconds))
        now = tree(target.out) if target.out.exists() else None  # between the two renames there is none
        assert now in (None, older, whole)
        if killed:
            found["between" if now is None else "older" if now == older else "whole"] += 1
        if now == whole:
            if killed:
                target.finish(whole)
            target.put(tmp_path / "older")
    target.finish(whole)
    return found


def fill(source: Path, count: int) -> None:
    for number in range(count):
        (source / f"{number:03d}.dcm").write_bytes(as_bytes(make_dicom(seed=number, patient=f"P{number % 3 + 1}")))


@pytest.mark.fault
def test_nothing_is_half_imported_after_a_kill(source, tmp_path):
    fill(source, 40)
    assert sum(kill_and_go_on(source, tmp_path, 2, seed=3).values()) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_half_imported_after_twenty_kills(source, tmp_path):
    fill(source, 400)
    found = kill_and_go_on(source, tmp_path, 20, seed=7)
    click.echo(f"20 kills found the data set {dict(found)}")
    assert found["older"] > 0
