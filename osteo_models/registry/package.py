"""The files of a version: fetched from the store and checked against the manifest whose hash is in a tag."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from osteo_models.core.errors import OsteoError, StaleDataError, StoreError, WeightsError
from osteo_models.registry.manifest import MANIFEST, Damage, find_damage, is_part
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo, get_version
from osteo_models.serving.model_record import RECORD
from osteo_models.serving.network import LoadedNetwork, read_network
from osteo_models.serving.predict import LoadedVersion

MANIFEST_TAG: Final = "osteo.manifest"
REMEDY: Final = "restore the file from a backup, or register a new version with `dvc repro -f register`"
MOVED: Final = "if the project was moved, move its state folder with it; else restore the folder from a backup"
LOST: Final = "restore the database, or register a new version with `dvc repro -f register`"
FAULTS_SHOWN: Final = 5
# Folders of a package.
ARTIFACTS: Final = "artifacts"  # the model folder
EVIDENCE: Final = "evidence"
RECORDS: Final = "record"
MODEL: Final = f"{ARTIFACTS}/{RECORD}"
ORIGIN: Final = f"{RECORDS}/origin.json"


@dataclass(frozen=True)
class Package:
    """The files of a version: in place, or as a copy from a remote store while `open_package` lasts.

    A file that is not in the folder is one that the store does not list.

    Attributes:
        folder: Where the files are.
        parts: Files and folders that were opened; all where empty.
    """

    tracking: Tracking
    version: VersionInfo
    folder: Path
    parts: tuple[str, ...]

    def find_damage(self, *parts: str) -> list[Damage]:
        """What differs in some files and folders, by default in all that were opened, from what was registered.

        The tag of the version proves the manifest.

        Raises:
            StoreError: A file cannot be read.
        """
        with self.tracking.reading():
            return find_damage(self.folder, self.version.tags.get(MANIFEST_TAG, ""), parts or self.parts)

    def check(self, *parts: str) -> None:
        """See that these files and folders, by default all that were opened, are as they were registered.

        Raises:
            StaleDataError: Files are missing, changed or were added; the message names them.
            StoreError: A file cannot be read.
        """
        if damage := self.find_damage(*parts):
            more = f", and {len(damage) - FAULTS_SHOWN} more" if len(damage) > FAULTS_SHOWN else ""
            found = ", ".join(map(str, damage[:FAULTS_SHOWN])) + more
            raise StaleDataError(found, where=self.version.uri, remedy=REMEDY)

    def read(self, name: str) -> bytes:
        """One file, as it was registered.

        Raises:
            StaleDataError: There is no such file, or it was changed.
            StoreError: It cannot be read.
        """
        self.check(name)
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            remedy = "register it again with `dvc repro -f register`"
            raise StaleDataError(f"keeps no {name}", where=self.version.uri, remedy=remedy) from None

    def list_jobs(self) -> list[str]:
        """Keys of the jobs behind the version's metrics.

        Raises:
            StaleDataError: The record of them is missing or was changed.
        """
        return [entry["key"] for entry in json.loads(self.read(ORIGIN))["jobs"]]


@contextmanager
def open_package(tracking: Tracking, version: VersionInfo, *parts: str, check: bool = True) -> Iterator[Package]:
    """The files of a version.

    Args:
        parts: Files and folders to fetch; all by default. The manifest always comes with them.
        check: Whether to compare them with what was registered.

    Raises:
        StaleDataError: They are not as they were registered, or MLflow has no model for the version any more.
        WeightsError: Something else registered the version.
        StoreError: The store cannot be used, lists no file, or sent less than it lists.
    """
    if not version.model_id:
        remedy = "use a version that `dvc repro register` made"
        raise WeightsError(
            "not registered by this project, so nothing of it is loaded", where=version.uri, remedy=remedy
        )
    with tempfile.TemporaryDirectory() as scratch:
        with tracking.reading():
            try:
                location = tracking.client.get_logged_model(version.model_id).artifact_location
            except MlflowException as error:
                if not is_missing(error):
                    raise
                raise StaleDataError("MLflow has lost its model", where=version.uri, remedy=LOST) from None
            folder = local_path(location)
            if folder is None:
                folder = Path(scratch)
                _download(tracking, location, folder, version.uri, [*parts, MANIFEST] if parts else [])
            elif not folder.is_dir():
                raise StoreError(f"its files are not at {folder}", where=version.uri, remedy=MOVED)
        package = Package(tracking, version, folder, parts)
        if check:
            package.check()
        yield package


def read_stored_file(tracking: Tracking, version: VersionInfo, name: str) -> bytes:
    """One file of a version, as it was registered; for the errors see `open_package` and `Package.read`."""
    with open_package(tracking, version, name, check=False) as package:
        return package.read(name)


def load_network(tracking: Tracking, version: VersionInfo | str, *, device: str = "cpu") -> LoadedNetwork:
    """The network of a version, after a check of all its files; no code of the version is run.

    Args:
        version: A version, or a reference as in `get_version`.

    Raises:
        InputError: There is no such version.
        StaleDataError: A file of the version is not as it was registered.
        WeightsError: Something else registered the version, or it holds no network.
    """
    info = get_version(tracking, version) if isinstance(version, str) else version
    with open_package(tracking, info) as package:
        return read_network(package.folder / ARTIFACTS, device=device)


def load_version(tracking: Tracking, reference: str, *, device: str = "cpu") -> LoadedVersion:
    """Find a version and load its network; for the arguments see `get_version` and `load_network`."""
    version = get_version(tracking, reference)
    network = load_network(tracking, version, device=device)
    return LoadedVersion(version.name, version.version, version.tags.get("synthetic") == "true", network)


def local_path(uri: str) -> Path | None:
    """The path of a `file:` address; None for any other."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _download(tracking: Tracking, location: str, folder: Path, where: str, parts: Sequence[str]) -> None:
    """Fetch what a remote store lists, and check that all of it came."""
    try:
        repository = get_artifact_repository(location, tracking_uri=tracking.uri)
        listed = list(_list_files(repository, parts))
        for part in parts or [""]:
            if any(is_part(info.path, [part] if part else []) for info in listed):
                repository.download_artifacts(part, str(folder))
    except (OsteoError, MlflowException, OSError):
        raise
    except Exception as error:  # MLflow passes on what the client of the artifacts' store raises
        remedy = "check that the store of artifacts is up, and its credentials"
        raise StoreError(f"its files cannot be fetched ({error})", where=where, remedy=remedy) from error
    if not listed:
        raise StoreError("the store lists none of its files", where=where, remedy=MOVED)
    for info in listed:
        size = (folder / info.path).stat().st_size
        if info.file_size is not None and size != info.file_size:
            found = f"the store sent {size:,} of {info.file_size:,} bytes of {info.path}"
            raise StoreError(found, where=where, remedy="run the command again; if it stays, look at the server's log")


def _list_files(repository: ArtifactRepository, parts: Sequence[str], path: str | None = None) -> Iterator[FileInfo]:
    """Every file that a store lists of a package, or of some parts of it."""
    for info in repository.list_artifacts(path):
        inside = is_part(info.path, parts)
        if info.is_dir and (inside or any(part.startswith(f"{info.path}/") for part in parts)):
            yield from _list_files(repository, parts, info.path)
        elif inside and not info.is_dir:
            yield info
