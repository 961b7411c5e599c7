"""The model card that stands in the registry beside a version: what it is, what it was tested on, what it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from osteo_models.core.errors import StaleDataError
from osteo_models.core.terms import (
    CLASS_NAMES,
    IMAGE_COLUMNS,
    IMAGE_ROWS,
    PROTOCOLS,
    find_stages,
    metric_prefix,
)
from osteo_models.registry.runs import PARENT_TAG, SYNTHETIC_NOTICE, is_synthetic
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import get_version, list_versions
from osteo_models.serving.model_record import ModelRecord

READING: Final = (
    "Brackets: 95 % intervals. `patient`: no patient is on both sides of a split. `image`: slices of one patient may "
    "be, which flatters, so it never promotes. The weights are those that were tested on the hold-out."
)
WAIVED: Final = "- **waived rule**"
CHAMPION: Final = "\n\nChampion: "
COLUMNS: Final = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity")
_ORIGIN: Final = {
    "git.tree": "code, as a git tree",
    "git.commit": "commit checked out",
    "dvc.data": "data",
    "dvc.splits": "splits",
    "profile": "profile",
}
FOLDER: Final = "report"


def write_card(
    record: ModelRecord,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    sha256: str,
    links: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The card as Markdown.

    Args:
        record: What the network is.
        metrics: Of all its stages.
        tags: Where it comes from.
        sha256: Of the weights.
        links: Addresses within MLflow's pages by what they show: see `link_pages`.
    """
    takes = " or ".join(modality.upper() for modality in record.modalities)
    spec = ", ".join(f"{name} {value}" for name, value in record.spec.items())
    control, positive = CLASS_NAMES
    what = (
        f"**{record.architecture}** on {record.images} images{f' ({spec})' if spec else ''}: tells {positive} (T-score "
        f"below -1) from {control} in one sagittal {takes} image of the lumbar spine, cropped and resized to "
        f"{IMAGE_ROWS} x {IMAGE_COLUMNS}. The score is a probability; from {record.threshold:g} on the decision is "
        f"{positive}."
    )
    if record.members > 1:
        what += (
            f" It is the mean of {record.members} networks, each trained without one fold of the patients; their "
            "standard deviation is the uncertainty. In cross-validation each image is scored by the one network that "
            "did not see its patient; the hold-out is scored by all of them."
        )
    lines = [
        *([SYNTHETIC_NOTICE, ""] if is_synthetic(tags) else []),
        what,
        "",
        *_table(metrics),
        "",
        READING,
        "",
        *([f"See {', '.join(f'[{text}]({place})' for text, place in links.items())}.", ""] if links else []),
        *(f"- {label}: `{tags[name]}`" for name, label in _ORIGIN.items() if tags.get(name)),
        f"- job: `{record.key}`",
        f"- weights: SHA-256 `{sha256}`",
        "",
        "No medical device: for research, not for decisions about patients.",
    ]
    return "\n".join(lines)


def add_waivers(card: str, waivers: Iterable[str]) -> str:
    """The card with a line at its end for every waiver, each once."""
    lines = (f"{WAIVED} {waiver}" for waiver in waivers)
    return "\n".join([card, *(line for line in lines if line not in card.splitlines())])


def link_version(name: str, version: int | str) -> str:
    """A version as a link within MLflow's pages."""
    return f"[version {version}](#/models/{name}/versions/{version})"


def link_pages(*, name: str, experiment: str, run: str, job_run: str, model_id: str) -> dict[str, str]:
    """Addresses within MLflow's pages, relative to them, so that they hold on every server.

    Args:
        experiment: Its id.
        run: Of the registration, which has the metrics of all stages.
        job_run: Of the job that trained it, which has its curves and, once it is written, the report.
        model_id: MLflow's logged model, which has the files.
    """
    here = f"#/experiments/{experiment}"
    return {
        "its metrics": f"{here}/runs/{run}",
        "the job that trained it": f"{here}/runs/{job_run}",
        "all jobs of that stage": f"{here}/runs",
        "its files": f"{here}/models/{model_id}/artifacts",
        "the report": f"{here}/runs/{job_run}/artifacts/report/index.html",
        "all versions": f"#/models/{name}",
    }


def describe_champion(text: str, name: str, champion: int, before: int | None) -> str:
    """A registered model's description with its champion, in the place of what it said of one."""
    earlier = f", before it {link_version(name, before)}" if before is not None else ""
    return f"{text.partition(CHAMPION)[0]}{CHAMPION}{link_version(name, champion)}{earlier}."


def _table(metrics: Mapping[str, float]) -> list[str]:
    head = ["stage", "protocol", "images", "patients", *(name.replace("_", " ") for name in COLUMNS)]
    rows = [head, ["---"] * len(head)]
    for stage in find_stages(metrics):
        for protocol in PROTOCOLS:
            prefix = metric_prefix(stage, protocol)
            if any(name.startswith(f"{prefix}.") for name in metrics):
                counts = [_count(metrics.get(f"{prefix}.{name}")) for name in ("n", "n_patients")]
                rows.append(
                    [stage, protocol, *counts, *(format_metric(metrics, f"{prefix}.{name}") for name in COLUMNS)]
                )
    return [f"| {' | '.join(row)} |" for row in rows]


def format_metric(metrics: Mapping[str, float], name: str) -> str:
    """A metric with its interval, such as `0.912 [0.870, 0.951]`; a dash where it is undefined."""
    value = metrics.get(name)
    if value is None:
        return "-"
    low, high = metrics.get(f"{name}.ci_low"), metrics.get(f"{name}.ci_high")
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def attach_report(tracking: Tracking, path: Path, references: Iterable[str] | None = None) -> list[str]:
    """Log the report page to the run of the job that trained each version; the page of an earlier report is replaced.

    Args:
        path: The page.
        references: The versions that the page is about, such as `osteo-multimodal/3`; all versions by default.

    Returns:
        Ids of the runs, each once.

    Raises:
        InputError: There is no such version.
        StaleDataError: There is no page.
    """
    if not path.is_file():
        raise StaleDataError("file not found", where=str(path), remedy="make it with `dvc repro report`")
    if references is None:
        versions = list_versions(tracking)
    else:
        versions = [get_version(tracking, reference) for reference in references]
    with tracking.reading():
        registered = [tracking.client.get_run(version.run_id) for version in versions if version.run_id]
    parents = dict.fromkeys(run.data.tags[PARENT_TAG] for run in registered if PARENT_TAG in run.data.tags)
    for run_id in parents:
        tracking.log_artifact(run_id, path, FOLDER)
    return list(parents)
