"""A version's manifest: the SHA-256 of every file that is kept with it. The manifest's own is a tag of the version."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import artifacts as mlflow_artifacts

from osteo_models.errors import StaleDataError, WeightsError
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.tracking import Tracking

MANIFEST: Final = "manifest.json"
MANIFEST_TAG: Final = "osteo.manifest"
REMEDY: Final = "restore the file from a backup, or register a new version with `dvc repro -f register`"


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there; the manifest is left out."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_manifest(folder: Path, files: Mapping[str, str]) -> str:
    """Write the manifest into a folder and give its SHA-256."""
    content = (json.dumps({"sha256": dict(files)}, indent=1, sort_keys=True) + "\n").encode()
    (folder / MANIFEST).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_manifest(path: Path, digest: str, where: str) -> dict[str, str]:
    """Read a manifest that must have this SHA-256.

    Args:
        path: The file.
        digest: From the version's tag; empty where it has none.
        where: What to call the version in errors.

    Raises:
        StaleDataError: There is none, or it is another one.
    """
    if not digest:
        found, remedy = "keeps no manifest", "register it again with `dvc repro -f register`"
        raise StaleDataError(found, where=where, remedy=remedy)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StaleDataError(f"{MANIFEST} cannot be read ({error.strerror})", where=where, remedy=REMEDY) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise StaleDataError(f"{MANIFEST} was changed after it was registered", where=where, remedy=REMEDY)
    return json.loads(content)["sha256"]


@contextmanager
def open_files(tracking: Tracking, version: VersionInfo, name: str = "") -> Iterator[Path]:
    """A version's files on this machine: where they lie, or a copy from a remote store for as long as it is wanted.

    Args:
        tracking: The store.
        version: The version.
        name: One file or folder of it; all by default.

    Raises:
        WeightsError: Something else registered the version.
        StoreError: The store cannot be used.
    """
    if not version.model_id:
        remedy = "register models with `dvc repro register`"
        raise WeightsError("something else registered this version", where=version.uri, remedy=remedy)
    with tempfile.TemporaryDirectory() as folder:
        with tracking.reading():
            place = tracking.client.get_logged_model(version.model_id).artifact_location
            here = local_path(place)
            found = (
                here / name
                if here
                else Path(
                    mlflow_artifacts.download_artifacts(
                        artifact_uri=f"{place}/{name}".rstrip("/"), dst_path=folder, tracking_uri=tracking.uri
                    )
                )
            )
        yield found


def read_kept(tracking: Tracking, version: VersionInfo, name: str) -> bytes:
    """A file of a version, proven to be the one that was registered.

    Raises:
        StaleDataError: The version keeps no such file, or it was changed.
        StoreError: The store cannot be used.
        WeightsError: Something else registered the version.
    """
    listed = read_listing(tracking, version)
    if name not in listed:
        remedy = "register it again with `dvc repro -f register`"
        raise StaleDataError(f"keeps no {name}", where=version.uri, remedy=remedy)
    with open_files(tracking, version, name) as path:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StaleDataError(
                f"{name} cannot be read ({error.strerror})", where=version.uri, remedy=REMEDY
            ) from None
    if hashlib.sha256(content).hexdigest() != listed[name]:
        raise StaleDataError(f"{name} was changed after it was registered", where=version.uri, remedy=REMEDY)
    return content


def read_listing(tracking: Tracking, version: VersionInfo) -> dict[str, str]:
    """What the version keeps: SHA-256 by name.

    Raises:
        StaleDataError: It keeps no manifest, or it was changed.
        StoreError: The store cannot be used.
        WeightsError: Something else registered the version.
    """
    with open_files(tracking, version, MANIFEST) as path:
        return read_manifest(path, version.tags.get(MANIFEST_TAG, ""), version.uri)


def local_path(uri: str) -> Path | None:
    """The path of a `file:` address; None for any other."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
