"""A project with made-up images in which `experiments` is run as a process of its own, watched, and made to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml

from osteo_models.core.params import parse_params
from osteo_models.core.params_faults import as_list
from osteo_models.data.pairs import make_pairs
from osteo_models.data.splits import make_splits
from tests.conftest import ROOT

PATIENTS, SLICES = 12, 4
MARK = "OSTEO_TEST_MARK"
FOLDS = {"stage-1": 2, "stage-5": 1}
CURVES = 4  # metrics of an epoch


@dataclass(frozen=True)
class Laboratory:
    """A project folder.

    Attributes:
        folds: Their number by stage; each stage has one job.
        written: How often a checkpoint of each fold and epoch appeared.
    """

    root: Path
    environment: dict[str, str]
    folds: dict[str, int]
    written: Counter[tuple[str, int]] = field(default_factory=Counter)
    _seen: set[tuple[Path, int]] = field(default_factory=set)

    @property
    def state(self) -> Path:
        return self.root / ".osteo"

    @property
    def trials(self) -> int:
        return sum(self.folds.values())

    @contextmanager
    def start(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a Python module, the experiments unless said otherwise, as the leader of a process group."""
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ("pipelines.experiments",))],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *command: str, code: int = 0) -> str:
        """Run it to its end and give what it printed."""
        with self.start(*command) as process:
            output, _ = process.communicate(timeout=900)
        assert process.returncode == code, output
        return output

    def watch(self, process: subprocess.Popen[str], until: Callable[[], bool], seconds: float = 400) -> float:
        """Note the checkpoints of a running process until something holds; returns the seconds that took."""
        begun = time.monotonic()
        while not until():
            self.note()
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() - begun < seconds, "waited too long"
            time.sleep(0.02)
        self.note()
        return time.monotonic() - begun

    def note(self) -> None:
        """Count the checkpoints that are new since the last look."""
        for path in self.state.glob("jobs/*/fold-*/epoch-*.safetensors"):
            try:
                seen = (path, path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
            if seen not in self._seen:
                self._seen.add(seen)
                fold = str(path.parent.relative_to(self.state))
                self.written[fold, int(path.stem.removeprefix("epoch-"))] += 1

    def results(self) -> dict[str, int]:
        """Finished folds and when each was finished."""
        found = self.state.glob("jobs/*/fold-*/result.json")
        return {str(path.parent.relative_to(self.state)): path.stat().st_mtime_ns for path in found}

    def processes(self) -> list[psutil.Process]:
        """Whatever was started here and still runs."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.environment[MARK] and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def wait_for_end(self, seconds: float = 60) -> float:
        """The seconds until nothing is left of what was started here; Ray alone would leave some of it for good."""
        begun = time.monotonic()
        while left := self.processes():
            assert time.monotonic() - begun < seconds, [process.cmdline() for process in left]
            time.sleep(0.1)
        return time.monotonic() - begun


def make_laboratory(
    root: Path, *, epochs: int, seed: int = 7, stages: Sequence[str] = tuple(FOLDS), **environment: str
) -> Laboratory:
    """A project that trains one network, unless said otherwise in two stages of three folds together."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for modality in ("mri", "ct"):
        ages = {"control_age_years": [20, 90], "osteoporosis_age_years": [20, 90]}
        raw["splits"]["holdout"][modality] = {"images_per_class": 2 * SLICES, **ages}
        sizes = {"images_per_class": 2 * SLICES, "control_patients": 2, "osteoporosis_patients": 2}
        raw["splits"]["patient_test"][modality] = sizes
    raw["splits"]["folds"] = FOLDS["stage-1"]
    raw["profiles"]["quick"] |= {"epochs": epochs, "image_protocol": []}
    raw["experiments"] |= {"seed": seed, "precision": "float32"}
    raw["stages"] = {name: raw["stages"][name] | {"images": ["mri"], "architectures": ["unimodal"]} for name in stages}
    kinds = {stage["validation"] for stage in raw["stages"].values()}
    raw["gate"] = [rule for rule in raw["gate"] if kinds.intersection(as_list(rule.get("validation", kinds)))]
    params = parse_params(raw)
    images = pd.DataFrame(
        [
            (f"{modality}{target}{patient:02d}-{number}", f"{modality}{target}{patient:02d}", modality, target, 30, "F")
            for modality in ("mri", "ct")
            for target in (0, 1)
            for patient in range(PATIENTS)
            for number in range(SLICES)
        ],
        columns=["image_id", "patient_id", "modality", "target", "age_years", "sex"],
    )
    pixels = np.random.default_rng(7).integers(0, 150, (len(images), 80, 60), dtype=np.uint8)
    pixels[images["target"] == 1, 40:] += 40
    splits = make_splits(images, params.splits)
    for folder in ("cohort", "splits", "search"):
        (root / "artifacts" / folder).mkdir(parents=True)
    np.save(root / "artifacts/cohort/images.npy", pixels)
    images.to_csv(root / "artifacts/cohort/images.csv", index=False)
    splits.to_csv(root / "artifacts/splits/splits.csv", index=False)
    make_pairs(splits, params.splits).to_csv(root / "artifacts/splits/pairs.csv", index=False)
    best = {"candidate": 0, "spec": {}, "learning_rate": None}
    (root / "artifacts/search/best.yaml").write_text(yaml.safe_dump(best), encoding="utf-8")
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "RAY_"))}
    # Ray's agents give themselves a title, and with it would overwrite the environment by which they are found.
    own = {"PYTHONPATH": str(ROOT), MARK: uuid.uuid4().hex, "SPT_NOENV": "1"}
    return Laboratory(root, {**kept, **own, **environment}, {name: FOLDS[name] for name in stages})


def interrupt(process: subprocess.Popen[str]) -> None:
    """What a terminal does at Ctrl-C: a signal to the whole foreground group."""
    os.killpg(process.pid, signal.SIGINT)
