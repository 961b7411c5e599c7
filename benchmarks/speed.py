"""Speed against peers, as ratios of times measured in one run on one thread, so that machines can be compared.

    python -m benchmarks.speed              # all ratios; compared with speed.json
    python -m benchmarks.speed --short      # what CI runs: the step of each class of CPU against matrix products
    python -m benchmarks.speed --record     # write the ratios of this machine into speed.json
    python -m benchmarks.speed --keras PYTHON   # with the authors' Keras network, in a Python that has tensorflow-cpu

Peers: the matrix products of the same work at the speed of a 1024 x 1024 product; the same step without `WORKER_ENV`;
the authors' network in Keras. Fails when a ratio is more than 25 % above the recorded one of the same CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from osteo_models.models import build
from osteo_models.training.fit import Fit
from osteo_models.training.fold import FoldData
from osteo_models.training.frozen_features import extract_rows
from osteo_models.training.inference import as_batch, as_tensor
from osteo_models.training.ray_cluster import WORKER_ENV
from osteo_models.training.recipe import Recipe, resolve_precision

RECORD: Final = Path(__file__).with_name("speed.json")
WORSE: Final = 1.25
# A CPU without bfloat16 and AVX512, on any newer one.
AVX2: Final = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
BATCH, STEPS, REPEATS = 16, 12, 6
CPU: Final = torch.device("cpu")


def measure(task: str, arithmetic: Any) -> dict[str, float]:
    """Milliseconds of a step, or of an image for `efficientnet_lite0`, and of its matrix products alone."""
    torch.set_num_threads(1)
    if task == "efficientnet_lite0":
        images = np.random.default_rng(0).integers(0, 256, (32, 80, 60), np.uint8)
        network: Any = build(task).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval().features(as_batch(as_tensor(images[:1])))
        units, work = len(images), lambda: extract_rows(network, images, arithmetic=arithmetic, device="cpu")
    else:
        fit = Fit(build(task), Recipe(precision=arithmetic), make_fold(task), seed=0)
        counter, units, work = count_step(fit), STEPS, fit.run_epoch
    seconds, gflops = [], []
    matrix = torch.rand(1024, 1024).to(getattr(torch, arithmetic))
    for _ in range(REPEATS):  # side by side, and the best of each: a busy neighbour must not decide
        seconds.append(time_once(work))
        gflops += [2 * 1.024**3 / time_once(lambda: matrix @ matrix) for _ in range(4)]
    return {"ms": min(seconds) / units * 1000, "matrix_ms": counter.get_total_flops() / max(gflops) / 1e6}


def make_fold(architecture: str) -> FoldData:
    """Noise: STEPS batches to train on, and one image to test."""
    count = BATCH * STEPS + 1
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * count, 80, 60)).astype(np.uint8)
    target, modality = np.tile(np.arange(count) % 2, 2), np.repeat((0, 1), count)
    rows = np.arange(count - 1)
    train = np.stack([rows, rows + count], axis=1) if architecture == "multimodal" else rows
    return FoldData(images, target, modality, train, np.array([count - 1]))


def count_step(fit: Fit) -> FlopCounterMode:
    """Floating-point operations of the matrix products of one step."""
    rows = fit.data.train[:BATCH]
    inputs = [as_batch(as_tensor(fit.data.images[column])) for column in (rows.T if rows.ndim == 2 else [rows])]
    with FlopCounterMode(display=False) as counter:
        outputs = fit.network.train()(*inputs)
        torch.stack(outputs if isinstance(outputs, tuple) else (outputs,)).sum().backward()
    fit.network.zero_grad()
    return counter


def time_once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_peer_inputs(path: Path) -> None:
    """Images, and our weights, scores and gradients of one batch in float64, for the Keras network."""
    fold, network = make_fold("unimodal"), build("unimodal").train().double()
    rows = fold.train[:BATCH]
    grey = as_batch(as_tensor(fold.images[rows]))[:, :1].double().expand(-1, 3, -1, -1)  # trained as one channel
    logits = network(grey)
    binary_cross_entropy_with_logits(logits, torch.from_numpy(fold.target[rows]).double()).backward()
    content = {"images": fold.images[fold.train], "target": fold.target[fold.train], "scores": logits.sigmoid()}
    for name, parameter in network.named_parameters():
        plain = name.removeprefix("features.").removeprefix("classifier.")
        content |= {plain: parameter, f"gradient.{plain}": parameter.grad}
    arrays: dict[str, Any] = {name: torch.as_tensor(value).detach().numpy() for name, value in content.items()}
    np.savez(path, **arrays)


def run_child(command: list[str], environ: dict[str, str]) -> dict[str, float]:
    """What a child process prints as JSON in its last line."""
    kept = {name: value for name, value in os.environ.items() if name not in WORKER_ENV}
    done = subprocess.run(command, env={**kept, **environ}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(title: str, environ: dict[str, str], arithmetic: str, options: argparse.Namespace) -> dict[str, float]:
    """The ratios of one class of CPU; prints the times behind them."""
    own = [sys.executable, "-m", "benchmarks.speed", "--arithmetic", arithmetic, "--task"]
    ratios: dict[str, float] = {}
    tasks = ["unimodal"] if options.short else ["unimodal", "traditional_cnn", "multimodal", "efficientnet_lite0"]
    for task in tasks:
        found = run_child([*own, task], environ | WORKER_ENV)
        ratios[f"{task} / matrix products"] = found["ms"] / found["matrix_ms"]
        print(f"{title}: {task} {found['ms']:.1f} ms, matrix products {found['matrix_ms']:.1f} ms")
        if not options.short and task != "efficientnet_lite0":
            plain = run_child([*own, task], environ)
            ratios[f"{task} / without WORKER_ENV"] = found["ms"] / plain["ms"]
        if options.keras and task == "unimodal":
            with tempfile.TemporaryDirectory() as folder:
                write_peer_inputs(Path(folder) / "inputs.npz")
                command = [options.keras, str(Path(__file__).with_name("keras_peer.py")), f"{folder}/inputs.npz"]
                peer = run_child([*command, arithmetic], environ)
            ratios["unimodal / Keras"] = found["ms"] / peer["ms"]
            print(f"{title}: Keras {', '.join(f'{name} {value:.3g}' for name, value in peer.items())}")
            if max(peer.get("scores", 0), peer.get("gradients", 0)) > 1e-5:
                raise SystemExit("scores or gradients differ from Keras by more than 1e-5")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--keras")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--arithmetic", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(options.task, options.arithmetic)))
        return
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    worse = []
    for title, environ, arithmetic in list_classes():
        before = recorded.get(title, {})
        ratios = compare(title, environ, arithmetic, options)
        print(f"\n| {title}, PyTorch {torch.__version__} | ratio | recorded |\n|---|---|---|")
        for name, ratio in ratios.items():
            print(f"| {name} | {ratio:.2f} | {before.get(name, '-')} |")
            if ratio > WORSE * before.get(name, float("inf")):
                worse.append(f"{title}: {name} is {ratio:.2f}, recorded is {before[name]}")
        print()
        recorded[title] = before | {name: round(ratio, 2) for name, ratio in ratios.items()}
    if options.record:
        RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
    elif worse:
        raise SystemExit("slower by more than 25 %:\n" + "\n".join(worse))


def list_classes() -> list[tuple[str, dict[str, str], str]]:
    """Title, environment and arithmetic of each class of CPU that this machine can show."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(":")[2].strip() if models else platform.machine()
    classes = [(f"{cpu}, AVX2 float32", AVX2, "float32")]
    if resolve_precision("auto", CPU) == "bfloat16":
        classes.append((f"{cpu}, bfloat16", {}, "bfloat16"))
    return classes


if __name__ == "__main__":
    main()
