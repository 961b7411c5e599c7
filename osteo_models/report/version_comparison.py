"""Two registered versions side by side: stage metrics, paired tests on shared images, and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.files import write_atomically
from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import PROTOCOLS, Protocol, Stage, metric_prefix
from osteo_models.evaluation.delong import DelongResult, delong_test
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import Difference, compare_scores
from osteo_models.evaluation.patient_level import score_patients
from osteo_models.evaluation.predictions import Predictions
from osteo_models.report.build import render_page
from osteo_models.report.wording import KINDS, write_points

SHOWN: Final = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier")
PINNED: Final = (
    *("git.commit", "git.tree", "dvc.data", "dvc.splits", "profile", "synthetic", "osteo.job", "osteo.weights"),
)


@dataclass(frozen=True)
class Side:
    """A version as the page shows it.

    Attributes:
        settings: Architecture, image set, precision and spec.
        predictions: Its scores on images that it was not trained on.
    """

    name: str
    version: int
    aliases: Sequence[str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    settings: Mapping[str, str]
    predictions: Sequence[Predictions]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class Pair:
    """Versions A and B on the same images of one kind of test; the differences are B (`first`) minus A (`second`)."""

    kind: str
    protocol: str
    n: int
    n_patients: int
    balanced_accuracy: Difference
    roc_auc: Difference
    by_image: DelongResult | None
    by_patient: DelongResult | None
    note: str
    sources: tuple[str, str]


def write_comparison(
    out: Path, first: Side, second: Side, *, stages: StageTable, threshold: float, synthetic: bool
) -> Path:
    """Write the page.

    Args:
        stages: The table of stages.
        threshold: Scores from here on are decided as osteoporosis.
        synthetic: Whether one of the versions was made from a phantom; the page then says so.
    """
    pairs = pair_versions(first.predictions, second.predictions, threshold=threshold)
    page = render_page(
        "comparison.html.j2",
        first=first,
        second=second,
        synthetic=synthetic,
        sentences=describe_pairs(first, second, pairs),
        metrics=list_metrics(first, second, stages),
        pairs=pairs,
        origins=list_origins(first, second),
    )
    return write_atomically(out, page)


def pair_versions(first: Sequence[Predictions], second: Sequence[Predictions], *, threshold: float) -> list[Pair]:
    """Every kind of test and protocol in which both versions scored a common image."""
    pairs: list[Pair] = []
    for kind in KINDS:
        for protocol in reversed(PROTOCOLS):
            a, b = (
                next((job for job in jobs if (job.validation, job.protocol) == (kind, protocol)), None)
                for jobs in (first, second)
            )
            if a is None or b is None:
                continue
            _, rows_a, rows_b = np.intersect1d(a.image_id, b.image_id, return_indices=True)
            a, b = a.select(rows_a), b.select(rows_b)
            if rows_a.size and np.array_equal(a.target, b.target):
                pairs.append(_compare(KINDS[kind], a, b, threshold))
    return pairs


def _compare(kind: str, a: Predictions, b: Predictions, threshold: float) -> Pair:
    differences = compare_scores(b.cases, a.cases, ("balanced_accuracy", "roc_auc"), Measure(threshold))
    by_image, note = _test(a.target, a.score, b.score)
    patients = [score_patients(job.target, job.score, job.patient_id) for job in (a, b)]
    target = np.asarray([patient.target for patient in patients[0]], dtype=np.int64)
    by_patient, reason = _test(target, *(np.asarray([patient.score for patient in side]) for side in patients))
    return Pair(
        kind,
        a.protocol,
        a.target.size,
        len(patients[0]),
        differences["balanced_accuracy"],
        differences["roc_auc"],
        by_image,
        by_patient,
        note or reason,
        (a.source, b.source),
    )


def _test(target: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[DelongResult | None, str]:
    """DeLong's test of B against A, or why it is undefined."""
    try:
        return delong_test(target, second, first), ""
    except InputError as error:
        return None, error.found.replace("`score_a`", "B's score").replace("`score_b`", "A's score")


def describe_pairs(first: Side, second: Side, pairs: Sequence[Pair]) -> list[str]:
    """The paired tests with whole patients left out, one sentence each; or why there are none."""
    if not pairs:
        return [
            "No image was scored by both versions, so no paired test is possible; the metrics are shown side by side."
        ]
    sentences = []
    for pair in pairs:
        if pair.protocol != "patient":
            continue
        gap = pair.balanced_accuracy
        where = f"{pair.kind.capitalize()} ({pair.n:,} shared images of {pair.n_patients} patients)"
        if gap.value is None or gap.ci_low is None or gap.ci_high is None:
            sentences.append(f"{where}: the difference is undefined.")
            continue
        interval = f"{write_points(gap.ci_low)} to {write_points(gap.ci_high)}"
        reading = f"{(second if gap.value > 0 else first).title} is better"
        if gap.ci_low <= 0 <= gap.ci_high:
            reading = "no difference beyond chance"
        figures = f"{write_points(gap.value)} points of balanced accuracy ({interval})"
        sentences.append(f"{where}: B minus A is {figures}: {reading}.")
    return sentences


def list_metrics(first: Side, second: Side, stages: StageTable) -> list[dict[str, Any]]:
    """The stage metrics of both versions, a row per kind of test, protocol and metric."""
    rows: list[dict[str, Any]] = []
    for kind, label in KINDS.items():
        for protocol in reversed(PROTOCOLS):
            stage_pair = [_find_stage(side, stages.select(kind), protocol) for side in (first, second)]
            if not any(stage_pair):
                continue
            for name in SHOWN:
                sides = [
                    _read_metric(side, stage, protocol, name)
                    for side, stage in zip((first, second), stage_pair, strict=True)
                ]
                values = [side["value"] for side in sides]
                gap = None if None in values else values[1] - values[0]
                test = f"{label.capitalize()}, by {protocol}"
                rows.append({"metric": name, "test": test, "a": sides[0], "b": sides[1], "difference": gap})
    return rows


def _find_stage(side: Side, stages: Sequence[Stage], protocol: Protocol) -> Stage | None:
    """The first of these stages that a version took part in."""
    prefixes = {stage: f"{metric_prefix(stage, protocol)}." for stage in stages}
    return next((stage for stage in stages if any(name.startswith(prefixes[stage]) for name in side.metrics)), None)


def _read_metric(side: Side, stage: Stage | None, protocol: Protocol, name: str) -> dict[str, Any]:
    """Value, interval and counts of a metric in a stage; None where there are none."""
    names = {
        "value": name,
        "ci_low": f"{name}.ci_low",
        "ci_high": f"{name}.ci_high",
        "n": "n",
        "n_patients": "n_patients",
    }
    prefix = metric_prefix(stage, protocol) if stage else ""
    return {field: side.metrics.get(f"{prefix}.{metric}") for field, metric in names.items()} | {"stage": stage}


def list_origins(first: Side, second: Side) -> list[dict[str, str]]:
    """Data, splits, code and settings of both, and whether they are the same."""
    settings = sorted({*first.settings, *second.settings})
    fields = {name: [str(side.tags.get(name, "")) for side in (first, second)] for name in PINNED}
    fields |= {f"settings: {name}": [str(side.settings.get(name, "")) for side in (first, second)] for name in settings}
    return [
        {"name": name, "state": "same" if a == b else ("differs" if a and b else "not known"), "a": a, "b": b}
        for name, (a, b) in fields.items()
        if a or b
    ]
