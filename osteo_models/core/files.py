"""Atomic writes, hashes of files, and locks between processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import filelock

from osteo_models.core.errors import OsteoError, StoreError

UNFINISHED: Final = ".unfinished"  # ends the names of files that are being written
LOCK_SECONDS: Final = 180.0  # longer than a server or a migration may take on a busy machine


def write_atomically(
    path: Path, content: bytes | str, *, mode: int = 0o666, durable: bool = True, overwrite: bool = True
) -> Path:
    """Write a file so that it is complete or absent; missing parent folders are made.

    The content goes to a temporary file in the same folder, which is then renamed.

    Args:
        path: The file.
        content: Bytes, or text that is written as UTF-8.
        mode: Permissions of the file, reduced by the umask.
        durable: Whether to wait until the disk has it, so that it survives a power cut.
        overwrite: Whether an existing file is replaced; otherwise it stays as it is.

    Returns:
        The path.

    Raises:
        OsteoError: The file cannot be written; no partial file is left.
    """
    # Machines that share a folder have the same process numbers, and containers may have the same host name.
    writer = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{writer}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
            file.write(content.encode(errors="surrogateescape") if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        remedy = "check free space and permissions, then run the same command again"
        raise OsteoError(f"cannot be written ({error.strerror})", where=str(path), remedy=remedy) from error
    return path


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed processes left; a process that is writing there at the moment fails."""
    for temporary in folder.glob(f".*{UNFINISHED}"):
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write a folder to disk: only then does a rename in it survive a power cut."""
    if os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_file(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Hash of a file in hexadecimal digits; MD5 is what DVC uses.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def hold_lock(
    path: Path,
    *,
    seconds: float = LOCK_SECONDS,
    where: str = "",
    found: str = "another process keeps the lock",
    remedy: str = "end the process that holds it, then run the command again",
) -> Iterator[None]:
    """Hold a lock between processes. The kernel frees it when the process ends; the file stays.

    Args:
        path: The lock file, in a folder that is neither removed nor renamed.
        seconds: How long to wait for another process.
        where: What the lock guards, for the error; the lock file by default.
        found: First part of the error message.
        remedy: Advice in the error message.

    Raises:
        StoreError: Another process keeps it.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout:
        raise StoreError(found, where=where or str(path), remedy=remedy) from None
    try:
        yield
    finally:
        lock.release()
