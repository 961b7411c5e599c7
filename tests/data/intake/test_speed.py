"""How much processor time an import takes for each file, beside reading and writing it with pydicom alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import psutil
import pytest

from tests.data.intake_files import IMPORT, as_bytes, make_dicom

PLAIN = """
import sys
from pathlib import Path
import pydicom
for path in sorted(Path(sys.argv[1]).iterdir()):
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.pixel_array.tobytes()
    dataset.save_as(Path(sys.argv[2]) / path.name)
"""
MOST_TIMES = 4
FEW, MANY = 100, 700


def fill(source: Path, numbers: range) -> None:
    """Uncompressed 256 x 320 images, half MR and half CT, as a scanner's noise makes them."""
    rng = np.random.default_rng(0)
    rows = np.add.outer(np.hanning(256), np.hanning(320)) * 900
    for number in numbers:
        pixels = (rows + rng.normal(0, 30, rows.shape) + number).clip(0, 4095).astype(np.uint16)
        modality, patient = ("MR", "CT")[number % 2], f"P{number // 15 % 3 + 1}"
        dataset = make_dicom(modality, patient=patient, seed=number, PixelData=b"")
        dataset.Rows, dataset.Columns, dataset.PixelData = 256, 320, pixels.tobytes()
        (source / f"{number:05d}.dcm").write_bytes(as_bytes(dataset))


def cpu_seconds(command: list[str | Path]) -> float:
    """Processor time of a command and everything below it."""
    seen: dict[int, float] = {}
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])})
    top = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            for each in (top, *top.children(recursive=True)):
                seen[each.pid] = sum(each.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue  # ended meanwhile
        time.sleep(0.02)
    assert process.returncode == 0
    return sum(seen.values())


@pytest.mark.slow
def test_an_import_takes_a_small_multiple_of_reading_and_writing(source, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(IMPORT)
    ours, plain = list[float](), list[float]()
    for numbers in (range(FEW), range(FEW, MANY)):
        fill(source, numbers)
        out, copies = tmp_path / f"data-{len(ours)}", tmp_path / f"copies-{len(ours)}"
        copies.mkdir()
        ours.append(cpu_seconds([sys.executable, script, source, tmp_path / "clinical.csv", out]))
        plain.append(cpu_seconds([sys.executable, "-c", PLAIN, source, copies]))
        assert len(list((out / "dicom").rglob("*.dcm"))) == len(list(copies.iterdir())) == numbers.stop
    ratio = (ours[1] - ours[0]) / (plain[1] - plain[0])  # without the start
    click.echo(f"{ratio:.2f} times the processor time of pydicom alone")
    assert ratio < MOST_TIMES
