"""The manifest of a model package: the SHA-256 of every file in it, and the only check of a package against it.

A package's own `model_code.py` imports this module first, to check the library beside it before it imports the rest.
For that reason this module needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MANIFEST: Final = "manifest.json"
WRITTEN_BY_MLFLOW: Final = "registered_model_meta"  # name and version: MLflow adds it to the folder that it loads from
NO_FILE: Final = "no regular file"


@dataclass(frozen=True)
class Damage:
    """A file of a package that is not as registered.

    Attributes:
        name: Path of the file below the package.
        found: What is wrong with it.
        added: It is not one of the files that were registered.
    """

    name: str
    found: str
    added: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.found}"


def hash_files(folder: Path, parts: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of the files of a package by path, without its manifest; `NO_FILE` in its place for a link or a device.

    Args:
        folder: The package.
        parts: Files and folders to hash; all by default.

    Raises:
        OSError: A file or folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder, onerror=fail):  # it follows no link to a folder
        for path in (Path(place, name) for name in (*files, *folders)):
            name = path.relative_to(folder).as_posix()
            if name in (MANIFEST, WRITTEN_BY_MLFLOW) or not is_part(name, parts):
                continue
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                found[name] = NO_FILE
            elif path.is_file():
                with path.open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def is_part(name: str, parts: Sequence[str]) -> bool:
    """Whether a file is one of these files or inside one of these folders; every file is where none is given."""
    return not parts or any(name == part or name.startswith(f"{part}/") for part in parts)


def write_manifest(folder: Path, files: Mapping[str, str]) -> str:
    """Write the manifest into a folder and return its SHA-256."""
    content = (json.dumps({"sha256": dict(files)}, indent=1, sort_keys=True) + "\n").encode()
    (folder / MANIFEST).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> dict[str, str]:
    """The manifest of a package: SHA-256 by path.

    Raises:
        OSError: It is missing or cannot be read.
        ValueError: It is no manifest.
    """
    listed = json.loads((folder / MANIFEST).read_bytes())
    if not isinstance(listed, dict) or not isinstance(listed.get("sha256"), dict):
        raise ValueError("no manifest")
    return listed["sha256"]


def find_damage(folder: Path, digest: str | None, parts: Sequence[str] = ()) -> list[Damage]:
    """Compare a package with its manifest: files that are missing, changed, or were added.

    Args:
        folder: The package.
        digest: SHA-256 of the manifest, from the tag of the version; None where no store is at hand, which
            leaves the manifest itself unproven.
        parts: Files and folders to check; all by default.

    Raises:
        OSError: A file or folder cannot be read, which says nothing about the package.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return [Damage(MANIFEST, "is missing")]
    if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        return [Damage(MANIFEST, "is not the one that was registered")]
    try:
        listed = read_manifest(folder)
    except ValueError:
        return [Damage(MANIFEST, "is damaged")]
    stored = hash_files(folder, parts)
    damage = [Damage(name, "is missing") for name in listed if is_part(name, parts) and name not in stored]
    for name, digest in stored.items():
        if name not in listed:
            damage.append(Damage(name, "is not in the manifest", added=True))
        elif digest != listed[name]:
            damage.append(Damage(name, f"is {NO_FILE}" if digest == NO_FILE else "is changed"))
    return sorted(damage, key=lambda each: each.name)
