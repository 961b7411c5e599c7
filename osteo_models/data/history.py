"""Earlier revisions of the data set, as git and the DVC cache keep them."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from osteo_models.data.frames import read_frame
from osteo_models.data.revisions import run_dvc
from osteo_models.errors import InputError, StoreError

SPLITS = "artifacts/splits/splits.csv"


@dataclass(frozen=True)
class Revision:
    """One revision of the data set.

    Attributes:
        name: What it was asked for by; `workspace` is what `data.dvc` on disk records.
        digest: MD5 of the data set.
        files: MD5 of every file, by its path in the data set.
        splits: The splits made from it, where `dvc.lock` records some; else None.
    """

    name: str
    digest: str
    files: Mapping[str, str]
    splits: pd.DataFrame | None
    cache: Path = field(repr=False)

    def read(self, path: str) -> bytes:
        """A file of this revision.

        Raises:
            StoreError: It is not in the DVC cache.
        """
        return _read_object(self.cache, self.files[path], f"{self.name}: {path}")

    def table(self, path: str) -> pd.DataFrame:
        """A CSV table of this revision, all text; empty where there is none."""
        if path not in self.files:
            return pd.DataFrame()
        return pd.read_csv(io.BytesIO(self.read(path)), dtype=str, keep_default_na=False)


def load_revision(root: Path, data: str, name: str | None = None) -> Revision:
    """A revision by git's name for it; without one, what is recorded on disk.

    Raises:
        InputError: git knows no such revision, or it records no data set.
        StoreError: The DVC cache does not hold it.
    """
    record = _read_yaml(root, f"{data}.dvc", name)
    try:
        digest = str(record["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError):
        found = f"{data}.dvc records no data set"
        raise InputError(found, where=name or "workspace", allowed="a revision made after `dvc add`") from None
    cache = Path(run_dvc(root, ["cache", "dir"]).stdout.strip())
    listed = json.loads(_read_object(cache, digest, f"{name or 'workspace'}: {data}"))
    files = {str(entry["relpath"]): str(entry["md5"]) for entry in listed}
    return Revision(name or "workspace", digest, files, _read_splits(root, name, cache), cache)


def _read_yaml(root: Path, path: str, name: str | None) -> Any:
    if name is None:
        try:
            return yaml.safe_load((root / path).read_text(encoding="utf-8"))
        except OSError:
            raise InputError("file not found", where=path, remedy="record the data set with `dvc add`") from None
    command = ["git", "show", "--end-of-options", f"{name}:./{path}"]
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if shown.returncode:
        remedy = "name a commit, a tag or a branch"
        raise InputError(f"git has no {path} in the revision {name!r}", where=str(root), remedy=remedy)
    return yaml.safe_load(shown.stdout)


def _read_splits(root: Path, name: str | None, cache: Path) -> pd.DataFrame | None:
    try:
        lock = _read_yaml(root, "dvc.lock", name)
        outs = {entry["path"]: entry["md5"] for entry in lock["stages"]["splits"]["outs"]}
        content = _read_object(cache, str(outs[SPLITS]), SPLITS)
    except (InputError, StoreError, KeyError, TypeError):
        return None
    return read_frame(io.BytesIO(content))


def _read_object(cache: Path, digest: str, what: str) -> bytes:
    path = cache / "files" / "md5" / digest[:2] / digest[2:]
    try:
        return path.read_bytes()
    except OSError:
        remedy = "get it with `dvc fetch --all-commits`"
        raise StoreError("not in the DVC cache", where=what, remedy=remedy) from None
