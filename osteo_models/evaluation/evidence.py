"""The metrics of one model over all the stages that its architecture and image set took part in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from osteo_models.errors import StaleDataError
from osteo_models.terms import PROTOCOLS, ImageSet, Stage, job_name, metric_prefix


def collect_metrics(artifacts: Path, stages: Iterable[Stage], architecture: str, images: ImageSet) -> dict[str, float]:
    """Read the metrics files of these stages.

    Returns:
        By name, from the stage on, such as `<stage>.patient.balanced_accuracy.ci_low`; stages it took no part in are
        absent.

    Raises:
        StaleDataError: A metrics file is missing.
    """
    found: dict[str, float] = {}
    for stage in stages:
        path = artifacts / "metrics" / f"{stage}.json"
        try:
            metrics: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StaleDataError("file not found", where=str(path), remedy="run `dvc repro evaluate`") from None
        for protocol in PROTOCOLS:
            head = f"{job_name(architecture, images, protocol)}."
            prefix = metric_prefix(stage, protocol)
            found |= {
                f"{prefix}.{name.removeprefix(head)}": value for name, value in metrics.items() if name.startswith(head)
            }
    return found
