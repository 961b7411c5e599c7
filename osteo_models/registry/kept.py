"""The predictions that a version keeps as evidence, read back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlflow import artifacts as mlflow_artifacts
from mlflow.exceptions import MlflowException

from osteo_models.errors import InputError
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import EVIDENCE


def read_kept_predictions(tracking: Tracking, version: VersionInfo) -> list[Predictions]:
    """The predictions files kept with a version; none where something else registered it.

    Raises:
        StoreError: The store cannot be used.
        TableError: A file is faulty.
    """
    if not version.model_id:
        return []
    with tracking.reading(), tempfile.TemporaryDirectory() as folder:
        place = tracking.client.get_logged_model(version.model_id).artifact_location
        target = Path(folder) / "predictions"
        for path in _list_files(f"{place}/{EVIDENCE}", tracking.uri):
            if path.suffix == ".parquet":
                _download(f"{place}/{path.as_posix()}", target / path.parent.name, tracking.uri)
        try:
            return read_predictions(Path(folder))
        except InputError as error:
            if target.is_dir():
                raise
            del error  # nothing is kept, which the reader says
            return []


def _list_files(place: str, uri: str) -> list[Path]:
    """Files two levels below a place, relative to the version's own folder; none where it does not exist."""
    try:
        folders = mlflow_artifacts.list_artifacts(artifact_uri=place, tracking_uri=uri)
        return [
            Path(EVIDENCE) / Path(folder.path).name / Path(file.path).name
            for folder in folders
            if folder.is_dir
            for file in mlflow_artifacts.list_artifacts(
                artifact_uri=f"{place}/{Path(folder.path).name}", tracking_uri=uri
            )
        ]
    except (MlflowException, OSError):
        return []


def _download(place: str, folder: Path, uri: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mlflow_artifacts.download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=uri)
