"""Results and checkpoints of trials: one folder per fold, and a store that all machines of a cluster share.

`result.json` is written last and holds the checksums of the other files, so a folder without it is unfinished and a
folder whose files do not match it is damaged; both are trained again, from the last checkpoint if there is one. Without
a store, every worker must reach the folder of jobs itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from pyarrow import fs

from osteo_models.core.errors import InputError, OsteoError, StoreError
from osteo_models.core.files import write_atomically
from osteo_models.core.processes import is_gone, name_process

RESULT, SCORES, WEIGHTS = "result.json", "scores.npy", "model.safetensors"
SETTING: Final = "OSTEO_JOBS_URI"
PREFIX: Final = "osteo-trial-"  # of local copies of trial folders; the name of the process follows
ALLOWED: Final = "s3://bucket/folder, or file:///folder where all machines see the same folder"


@dataclass(frozen=True)
class FoldResult:
    """A finished fold.

    Shapes:
        scores: (m,) in the order of the fold's test rows, or (m, K) for pairs of K modalities.

    Attributes:
        history: One mapping per epoch: epoch, train_loss, test_loss, test_balanced_accuracy, seconds.
        parameters: Number of all parameters of the network.
        weights: Path of the trained network's weights.
    """

    fold: int
    scores: npt.NDArray[np.float32]
    history: Sequence[dict[str, float]]
    precision: str
    device: str
    parameters: int
    trainable_parameters: int
    weights: Path


def fold_folder(jobs: Path, key: str, fold: int) -> Path:
    """Path of a fold's checkpoints and result."""
    return jobs / key / fold_name(fold)


def fold_name(fold: int) -> str:
    """Name of that folder."""
    return f"fold-{fold}"


def write_result(folder: Path, result: FoldResult) -> None:
    """Write the scores, then result.json with the checksums of scores and weights."""
    buffer = io.BytesIO()
    np.save(buffer, result.scores)
    write_atomically(folder / SCORES, buffer.getvalue())
    content: dict[str, Any] = {
        name: value for name, value in asdict(result).items() if name not in ("scores", "weights")
    }
    content["sha256"] = {name: _sha256(folder / name) for name in (SCORES, WEIGHTS)}
    write_atomically(folder / RESULT, json.dumps(content).encode())


def read_result(folder: Path) -> FoldResult | None:
    """The result of a finished fold; None if it is unfinished or its files do not match their checksums.

    Raises:
        OsteoError: A file exists and cannot be read.
    """
    try:
        content = json.loads((folder / RESULT).read_bytes())
        if any(_sha256(folder / name) != digest for name, digest in content.pop("sha256").items()):
            return None
        return FoldResult(**content, scores=np.load(folder / SCORES), weights=folder / WEIGHTS)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        remedy = "check the permissions and the disk, then run the same command again"
        raise OsteoError(f"cannot be read ({error.strerror})", where=str(folder), remedy=remedy) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class ResultStore:
    """A folder of an S3 store; workers receive its address alone, and use credentials of their own environment."""

    uri: str

    def __truediv__(self, name: str) -> ResultStore:
        return ResultStore(f"{self.uri}/{name}")

    def check(self) -> None:
        """Make sure that the store answers and has the bucket."""
        with self._explain():
            bucket = urlsplit(self.uri).netloc
            if self._files.get_file_info(bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket `{bucket}`")

    def list_names(self) -> list[str]:
        """Names of the files in this folder, sorted."""
        with self._explain():
            infos = self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
            return sorted(info.base_name for info in infos if info.type == fs.FileType.File)

    def download(self, names: Sequence[str], folder: Path) -> bool:
        """Copy files into a local folder; False, and nothing copied, unless all of them exist."""
        if not set(names) <= set(self.list_names()):
            return False
        for name in names:
            with self._explain(), self._files.open_input_stream(f"{self._path}/{name}") as stream:
                content = stream.read()
            write_atomically(folder / name, content)
        return True

    def upload(self, path: Path) -> None:
        """Copy a local file into this folder."""
        content = path.read_bytes()
        with self._explain(), self._files.open_output_stream(f"{self._path}/{path.name}") as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with self._explain(), contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._path}/{name}")

    def clear(self) -> None:
        """Remove everything in this folder."""
        with self._explain():
            self._files.delete_dir_contents(self._path, missing_dir_ok=True)

    @property
    def _files(self) -> fs.FileSystem:
        return _connect(urlsplit(self.uri).netloc)

    @property
    def _path(self) -> str:
        parts = urlsplit(self.uri)
        return f"{parts.netloc}{parts.path}"

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = f"check {SETTING}, AWS_ENDPOINT_URL and the AWS_* credentials, here and on the workers"
            found = " ".join(str(error).split()).removesuffix(".")
            raise StoreError(f"the store of jobs cannot be used ({found})", where=self.uri, remedy=remedy) from error


@functools.cache
def _connect(bucket: str) -> fs.FileSystem:
    # From an address: pyarrow reads AWS_ENDPOINT_URL only then, not when the class is called.
    return fs.FileSystem.from_uri(f"s3://{bucket}")[0]


def open_result_store(uri: str | None) -> ResultStore | None:
    """The store at an address; None without an address.

    Raises:
        InputError: The address is of another kind, or holds credentials.
        StoreError: The store cannot be used.
    """
    if uri is None:
        return None
    parts = urlsplit(uri)
    if parts.username or parts.password or parts.query:
        remedy = "keep them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, here and on the workers"
        raise InputError("the address holds more than a place, such as credentials", where=SETTING, remedy=remedy)
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError(f"`{uri}` is no shared store", where=SETTING, allowed=ALLOWED)
    store = ResultStore(uri.rstrip("/"))
    store.check()
    return store


class TrialFolder:
    """The local folder of one fold: the given one, or with a store a temporary copy of the store's.

    A temporary copy is removed with its trial; after a kill, by the next trial on the machine.

    Args:
        path: On a disk that every worker reaches; unused with a store.
        store: The fold's folder in the store.
    """

    def __init__(self, path: Path, store: ResultStore | None) -> None:
        self._store, self._uploaded, self.path = store, dict[str, int](), path
        if store is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        _remove_leftovers()
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name_process()}-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        store.download(store.list_names(), self.path)
        self._uploaded = self._modified()

    def upload(self) -> None:
        """Update the store: first upload what is new, the result last, then remove what is gone."""
        if self._store is None:
            return
        modified = self._modified()
        for name in sorted(modified, key=lambda name: (name == RESULT, modified[name])):
            if self._uploaded.get(name) != modified[name]:
                self._store.upload(self.path / name)
        for name in self._uploaded.keys() - modified.keys():
            self._store.remove(name)
        self._uploaded = modified

    def _modified(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.path.iterdir()}


def _remove_leftovers() -> None:
    """Remove the trial folders of processes that have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(ValueError):  # the name is not of this form
            if is_gone(folder.name.removeprefix(PREFIX).rpartition("-")[0]):
                shutil.rmtree(folder, ignore_errors=True)


def find_result(folder: Path, store: ResultStore | None, key: str, fold: int) -> FoldResult | None:
    """The result of a finished fold, from the local folder of jobs or downloaded into it from the store.

    Returns:
        None if the fold is unfinished, or its files do not match their checksums.
    """
    path = fold_folder(folder, key, fold)
    result = read_result(path)
    if result is None and store and (store / key / fold_name(fold)).download((WEIGHTS, SCORES, RESULT), path):
        result = read_result(path)
    return result


def check_reach(folder: Path, store: ResultStore | None) -> None:
    """Make sure, on a worker, that the driver finds what is written here.

    Raises:
        StoreError: The folder of jobs is not on this machine, and there is no store.
    """
    if store is None and not folder.is_dir():
        found, remedy = (
            "a worker does not reach the folder of jobs",
            f"set {SETTING} to a store that all machines share",
        )
        raise StoreError(found, where=str(folder), allowed=ALLOWED, remedy=remedy)
