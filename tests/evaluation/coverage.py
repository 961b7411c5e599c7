"""Coverage of the 95 % intervals by simulation: `python -m tests.evaluation.coverage --write` fills docs/statistics.md.

Patients differ from each other, and slices of one patient agree. Each dataset is drawn anew: an interval covers where
it holds the value of the population.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtr, ndtri

from osteo_models.evaluation.metrics import Measure, estimate_metrics
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.patient_level import MetricName, sum_patients
from osteo_models.evaluation.scored_cases import Cases

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
NAMES = np.char.zfill(np.arange(1000).astype(np.str_), 3)
LEVELS = (0.6, 0.8, 0.95)
BALANCED = (5, 6, 8, 12, 20, 50, 100)
COHORTS = [*((n, n) for n in BALANCED), (5, 50), (8, 30)]
METRICS: tuple[MetricName, ...] = ("sensitivity", "specificity", "balanced_accuracy", "roc_auc", "accuracy", "brier")
CALIBRATION: tuple[MetricName, ...] = ("calibration_slope", "calibration_intercept")
PAIRED: tuple[MetricName, ...] = ("balanced_accuracy", "roc_auc")


@dataclass(frozen=True)
class Setting:
    """A population and a sample of it.

    Args:
        model: "beta": a patient's share of right images has a beta distribution. "probit": a patient's scores are
            normal around a normal level of its own. "calibration": the same, read as probabilities. "paired": two such
            scores of the same images, the first of areas or rates of `level` and the second of `other`.
        icc: Correlation of slices of one patient: of right and wrong (beta; 1: patients are all right or all wrong), or
            of scores.
        slices: Fewest and most images of a patient, all numbers between equally likely.
        correlation: Of the two scores of one image (paired).
    """

    positives: int
    negatives: int
    model: str
    icc: float
    level: float
    slices: tuple[int, int] = (4, 20)
    other: float = 0.0
    correlation: float = 0.0

    @property
    def cohort(self) -> str:
        equal = self.positives == self.negatives
        return f"{self.positives}" if equal else f"{self.positives} and {self.negatives}"


@dataclass(frozen=True)
class Count:
    """How often a metric's interval held the truth, over the datasets that have one."""

    setting: Setting
    metric: str
    covered: float
    width: float
    missing: float


def simulate(setting: Setting, rng: np.random.Generator) -> Iterator[tuple[Cases, dict[MetricName, float]]]:
    """One dataset, with the true values of its metrics; the probit model has one for rates and one for the area."""
    sizes = rng.integers(setting.slices[0], setting.slices[1] + 1, setting.positives + setting.negatives)
    owner = np.repeat(np.arange(sizes.size), sizes)
    target = (owner < setting.positives).astype(np.int64)
    names = NAMES[owner]
    level, side = setting.level, 2 * target - 1
    if setting.model == "beta":
        spread = 1 / setting.icc - 1
        share = rng.beta(level * spread, (1 - level) * spread, sizes.size) if spread else rng.random(sizes.size) < level
        right = rng.random(owner.size) < share[owner]
        score = (rng.random(owner.size) + (right == (target == 1))) / 2
        yield Cases(target, score, names, True), dict.fromkeys(METRICS, level) | {"brier": (7 - 6 * level) / 12}
        return
    noise = _draw_noise(setting, owner, rng)
    if setting.model == "calibration":
        shift = ndtri(level) / np.sqrt(2)
        truth: dict[MetricName, float] = {"calibration_slope": 2 * shift}
        truth |= {"calibration_intercept": float(np.log(setting.positives / setting.negatives))}
        yield Cases(target, expit(noise + shift * side), names, True), truth
        return
    rates = ndtr(noise + ndtri(level) * side)
    yield Cases(target, rates, names, True), dict.fromkeys(METRICS[:3], level) | {"accuracy": level}
    yield Cases(target, ndtr(noise + ndtri(level) / np.sqrt(2) * side), names, True), {"roc_auc": level}


def _draw_noise(setting: Setting, owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal, correlated within a patient."""
    own = rng.normal(0, np.sqrt(setting.icc), owner[-1] + 1)
    return own[owner] + rng.normal(0, np.sqrt(1 - setting.icc), owner.size)


def _simulate_pair(setting: Setting, rng: np.random.Generator, metric: str) -> tuple[Cases, Cases, float]:
    """Two scores of the same images, and the true difference of the metric."""
    sizes = rng.integers(setting.slices[0], setting.slices[1] + 1, setting.positives + setting.negatives)
    owner = np.repeat(np.arange(sizes.size), sizes)
    target = (owner < setting.positives).astype(np.int64)
    names = NAMES[owner]
    shared, own = _draw_noise(setting, owner, rng), _draw_noise(setting, owner, rng)
    mixed = setting.correlation * shared + np.sqrt(1 - setting.correlation**2) * own
    scale = np.sqrt(2) if metric == "roc_auc" else 1
    first, second = (
        Cases(target, ndtr(noise + ndtri(level) / scale * (2 * target - 1)), names, True)
        for noise, level in ((shared, setting.level), (mixed, setting.other))
    )
    return first, second, setting.level - setting.other


def count(setting: Setting, replications: int) -> list[Count]:
    """Coverage and mean width of every metric of a setting."""
    rng = np.random.default_rng(zlib.crc32(repr(astuple(setting)).encode()))
    found: dict[str, list[tuple[float, float, float] | None]] = {}
    for _ in range(replications):
        if setting.model == "paired":
            for metric in PAIRED:
                first, second, truth = _simulate_pair(setting, rng, metric)
                one = compare_scores(first, second, (metric,), Measure())[metric]
                ends = None if one.ci_low is None else (one.ci_low, one.ci_high, truth)
                found.setdefault(metric, []).append(ends)
            continue
        for cases, truths in simulate(setting, rng):
            for metric, one in estimate_metrics(sum_patients(cases, 0.5), tuple(truths)).items():
                ends = None if one.ci_low is None else (one.ci_low, one.ci_high, truths[metric])
                found.setdefault(metric, []).append(ends)
    return [_summarize(setting, metric, rows) for metric, rows in found.items()]


def _summarize(setting: Setting, metric: str, rows: Sequence[tuple[float, float, float] | None]) -> Count:
    known = [row for row in rows if row is not None]
    covered = np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high, truth in known]) if known else np.nan
    width = np.mean([high - low for low, high, _ in known]) if known else np.nan
    return Count(setting, metric, float(covered), float(width), 1 - len(known) / len(rows))


def list_settings() -> list[Setting]:
    """Settings of the metrics that the requirement is about."""
    found = [
        Setting(*cohort, model, icc, level)
        for cohort, (model, icc), level in product(
            COHORTS, [*product(("beta", "probit"), (0.2, 0.5, 0.8)), ("beta", 1.0)], LEVELS
        )
    ]
    found += [Setting(*cohort, "beta", 1.0, level, (1, 1)) for cohort, level in product(COHORTS, LEVELS)]
    return found + [Setting(6, 6, "beta", icc, level, (4, 4)) for icc, level in product((0.2, 0.5, 0.8), LEVELS)]


def list_calibration() -> list[Setting]:
    cohorts = [(5, 5), (8, 8), (12, 12), (20, 20), (5, 50)]
    return [Setting(*c, "calibration", icc, level) for c, icc, level in product(cohorts, (0.2, 0.5, 0.8), LEVELS)]


def list_pairs() -> list[Setting]:
    pairs = ((0.6, 0.6), (0.8, 0.8), (0.95, 0.95), (0.95, 0.8))
    return [
        Setting(n, n, "paired", 0.5, one, (4, 20), other, correlation)
        for n, (one, other), correlation in product(BALANCED[:6], pairs, (0.0, 0.5, 0.9))
    ]


def measure(settings: Sequence[Setting], replications: int) -> list[Count]:
    """All settings, on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(partial(count, replications=replications), settings, chunksize=1)
        return [one for part in found for one in part]


def write_table(counts: Sequence[Count], metrics: Sequence[str]) -> str:
    """Markdown: for each cohort and metric the lowest and the mean coverage over settings, and the mean width."""
    cohorts = list(dict.fromkeys(one.setting.cohort for one in counts))
    lines = [f"| Patients per class | {' | '.join(name.replace('_', ' ') for name in metrics)} |"]
    lines.append("|---" * (len(metrics) + 1) + "|")
    for cohort in cohorts:
        cells = []
        for metric in metrics:
            rows = [one for one in counts if (one.setting.cohort, one.metric) == (cohort, metric)]
            lowest, mean = (f"{100 * take([one.covered for one in rows]):.1f}" for take in (min, np.mean))
            cells.append(f"{lowest} / {mean} ({np.mean([one.width for one in rows]):.2f})")
        lines.append(f"| {cohort} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_levels(counts: Sequence[Count], metrics: Sequence[str]) -> str:
    """Markdown: the lowest coverage and the mean width at each level."""
    heads = [f"{metric.replace('_', ' ')} {level:g}" for metric in metrics for level in LEVELS]
    lines = [f"| Patients per class | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for cohort in dict.fromkeys(one.setting.cohort for one in counts):
        cells = []
        for metric, level in product(metrics, LEVELS):
            rows = [x for x in counts if (x.setting.cohort, x.metric, x.setting.level) == (cohort, metric, level)]
            cells.append(f"{100 * min(x.covered for x in rows):.1f} ({np.mean([x.width for x in rows]):.2f})")
        lines.append(f"| {cohort} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    options = parser.parse_args()
    few = options.replications // 2
    _publish("metrics", write_table(counts := measure(list_settings(), options.replications), METRICS), options.write)
    _publish("levels", write_levels(counts, ("sensitivity", "balanced_accuracy", "roc_auc")), options.write)
    _publish("calibration", write_table(measure(list_calibration(), few), CALIBRATION), options.write)
    _publish("paired", write_table(measure(list_pairs(), few), PAIRED), options.write)


def _publish(name: str, table: str, write: bool) -> None:
    """Print a table, and put it into the page between its marks."""
    sys.stdout.write(f"{name}\n{table}\n\n")
    sys.stdout.flush()
    if write:
        head, rest = PAGE.read_text(encoding="utf-8").split(f"<!-- {name} -->\n", 1)
        PAGE.write_text(
            f"{head}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
