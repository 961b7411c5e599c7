"""What DVC and git record about this folder: hashes of the data, the commit, and DVC commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from osteo_models.core.errors import OsteoError, StaleDataError, StoreError
from osteo_models.core.files import hash_file
from osteo_models.core.settings import die_with_parent

STOP_SECONDS = 10.0  # more than a stage takes to end
Command = subprocess.CompletedProcess[str]
OBJECTS: Final = Path("files") / "md5"  # below DVC's cache
FOLDER: Final = ".dir"  # ends the MD5 of a folder, whose object lists its files
OBJECT_NAME: Final = re.compile(r"[0-9a-f]{30}(\.dir)?")


def read_data_digest(root: Path, data: str = "data") -> str | None:
    """The MD5 of the data set as `data.dvc` records it; None where the data set is not under DVC.

    Raises:
        StoreError: The file is there and cannot be read.
    """
    try:
        return _parse_digest((root / f"{data}.dvc").read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        remedy = "check the permissions and the disk, then run the same command again"
        raise StoreError(f"cannot be read ({error.strerror})", where=f"{data}.dvc", remedy=remedy) from None


def read_digest_at(root: Path, revision: str, data: str = "data") -> str | None:
    """The MD5 of the data set at a git revision; None where there is no such revision, or no `data.dvc` in it."""
    text = read_committed(root, revision, f"{data}.dvc")
    return None if text is None else _parse_digest(text)


def read_committed(root: Path, revision: str, path: str) -> str | None:
    """A text file of the project at a git revision; None where git has no such revision or file."""
    shown = _run(["git", "show", "--end-of-options", f"{revision}:./{path}"], root)
    return None if shown.returncode else shown.stdout


def find_data_commit(root: Path, digest: str, data: str = "data") -> str:
    """The first commit on a branch that records this MD5 of the data set; empty where none does."""
    command = ["git", "log", "--branches", "--remotes", "--reverse", "--format=%H", f"-S{digest}", "--", f"{data}.dvc"]
    return _run(command, root).stdout.partition("\n")[0] if digest else ""


def is_recorded(root: Path, digest: str, data: str = "data") -> bool:
    """Whether `data.dvc` records this MD5, or did at any commit."""
    if digest == read_data_digest(root, data):
        return True
    return bool(_run(["git", "log", "--all", "-1", "--format=%H", f"-S{digest}", "--", f"{data}.dvc"], root).stdout)


def _parse_digest(text: str) -> str | None:
    try:
        return str(yaml.safe_load(text)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        return None


def read_commit(root: Path) -> str:
    """The checked-out git commit; empty where there is none."""
    return _run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], root).stdout.strip()


def read_user(root: Path) -> str:
    """The user name in the configuration of git; empty where there is none."""
    return _run(["git", "config", "user.name"], root).stdout.strip()


def hash_data(folder: Path) -> str:
    """The MD5 that DVC gives a folder: of the list of its files with their MD5. Every byte is read.

    DVC itself relies on sizes and modification times, and would miss a flipped bit.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": hash_file(path, "md5"), "relpath": path.relative_to(folder).as_posix()} for path in files]
    listed.sort(key=lambda entry: entry["relpath"].split("/"))
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def check_data(root: Path, data: str = "data") -> None:
    """Prove that the data set on disk is the one that `data.dvc` records: every file is hashed.

    Raises:
        StaleDataError: It is another one.
    """
    found, recorded = hash_data(root / data), read_data_digest(root, data)
    if found != recorded:
        raise StaleDataError(
            f"the files (md5 {found}) differ from what {data}.dvc records",
            where=data,
            allowed=f"md5 {recorded}",
            remedy=f"record a new revision with `dvc add {data}`, or get the old one with `dvc checkout {data}`",
        )


def run_dvc(root: Path, arguments: Sequence[str]) -> Command:
    """Run a DVC command and capture what it prints.

    Raises:
        OsteoError: DVC failed, with its own last line.
    """
    done = _run([sys.executable, "-m", "dvc", *arguments], root)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line] or ["no message"]
        raise OsteoError(f"`dvc {' '.join(arguments)}` failed: {lines[-1]}", where=str(root))
    return done


def start_dvc(
    root: Path, arguments: Sequence[str], variables: Mapping[str, str], *, output: int | None = None
) -> tuple[int, list[str]]:
    """Run a DVC command on this terminal, with this environment's programs first.

    DVC and its stages (by OSTEO_DIE_WITH_PARENT) end when this process is killed, which frees DVC's locks.

    Args:
        root: The project's folder.
        arguments: Of DVC.
        variables: Added to the environment.
        output: File descriptor that its output goes to; this process' own standard output by default.

    Returns:
        Its exit code, and DVC's own error lines, which are not printed: the caller reports the error.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = child_environment() | {"OSTEO_DIE_WITH_PARENT": "1"} | dict(variables)
    errors: list[str] = []
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        preexec_fn=die_with_parent,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for line in process.stderr or ():
                if line.startswith("ERROR: "):
                    errors.append(line.removeprefix("ERROR: ").strip())
                elif not errors:  # what follows an error is DVC's pointer to its help
                    sys.stderr.write(line)
                    sys.stderr.flush()
        except KeyboardInterrupt:  # which a terminal gives to DVC and its stage, too
            _await_end(process)
            raise
    return process.returncode, errors


def _await_end(process: subprocess.Popen[str]) -> None:
    """Give a stopped DVC, and the stage that it runs, time to end; then end them."""
    try:
        process.communicate(timeout=STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()  # its stage follows


def _run(command: Sequence[str], root: Path) -> Command:
    return subprocess.run(command, cwd=root, env=child_environment(), check=False, capture_output=True, text=True)


def child_environment() -> dict[str, str]:
    """The environment of git and DVC: stages call `python`, which must be the one that runs now."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path}


def find_cache(root: Path) -> Path | None:
    """DVC's cache, as DVC resolves it from all its configuration files; None where the folder is not under DVC.

    Args:
        root: A folder of the DVC repository.

    Raises:
        OsteoError: The configuration of DVC is wrong.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError  # takes a third of a second
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local_cache_dir)
    except NotDvcRepoError:
        return None
    except DvcException as error:
        remedy = "`dvc config --list --show-origin` lists where each value comes from"
        raise OsteoError(f"DVC cannot be used: {error}", where=str(root), remedy=remedy) from error


def find_damage(cache: Path) -> Iterator[str]:
    """The objects in the cache whose content is not what their name says, by name."""
    for path in sorted((cache / OBJECTS).glob("[0-9a-f][0-9a-f]/*")):
        if OBJECT_NAME.fullmatch(path.name) and not _holds(path, path.parent.name + path.name):
            yield path.parent.name + path.name


def find_object(cache: Path, digest: str) -> Path:
    """Path of an object in the cache."""
    return cache / OBJECTS / digest[:2] / digest[2:]


def read_listing(cache: Path, digest: str) -> dict[str, str] | None:
    """MD5 by path of every file of a folder; None where the cache has no intact list of it."""
    path = find_object(cache, digest)
    if not _holds(path, digest):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_bytes())}


def compare_folder(folder: Path, listing: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What differs from a list of files: path, and `changed`, `missing` or `not recorded`."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(present | listing.keys()):
        if name not in present:
            yield name, "missing"
        elif name not in listing:
            yield name, "not recorded"
        elif not _holds(folder / name, listing[name]):
            yield name, "changed"


def _holds(path: Path, digest: str) -> bool:
    try:
        return hash_file(path, "md5") == digest.removesuffix(FOLDER)
    except FileNotFoundError:
        return False
    except OSError as error:  # which says nothing about the content; the name may hold a pseudonym
        remedy = "check the permissions and the disk, then run the same command again"
        raise StoreError(f"a file cannot be read ({error.strerror})", where="data", remedy=remedy) from None
