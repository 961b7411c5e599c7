"""The report page as an artifact of the runs that it is about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from osteo_models.errors import StaleDataError
from osteo_models.registry.lookup import get_version, list_versions
from osteo_models.registry.runs import PARENT_TAG
from osteo_models.registry.tracking import Tracking

FOLDER: Final = "report"


def attach_report(tracking: Tracking, path: Path, references: Iterable[str] | None = None) -> list[str]:
    """Log the report page to the run of the job that trained each version; the page of an earlier report is replaced.

    Args:
        tracking: The store.
        path: The page.
        references: The versions that the page is about, such as `osteo-multimodal/3`; all versions by default.

    Returns:
        Ids of the runs, each once.

    Raises:
        InputError: There is no such version.
        StaleDataError: There is no page.
        StoreError: The store cannot be used.
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
