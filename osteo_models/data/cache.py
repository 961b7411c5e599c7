"""Every byte of the data set and of DVC's cache, against the MD5 that DVC recorded.

DVC trusts sizes and times of change: a flipped bit with its time kept passes `dvc status` and `dvc checkout`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from osteo_models.data.revisions import hash_md5, run_dvc
from osteo_models.errors import StoreError

OBJECTS: Final = Path("files") / "md5"  # below DVC's cache
FOLDER: Final = ".dir"  # ends the MD5 of a folder, whose object lists its files
OBJECT_NAME: Final = re.compile(r"[0-9a-f]{30}(\.dir)?")


def find_cache(root: Path) -> Path | None:
    """Where DVC keeps its objects, by its own word; None where the project is not under DVC.

    Raises:
        OsteoError: DVC cannot say it.
    """
    if not (root / ".dvc").is_dir():
        return None
    return root / run_dvc(root, ["cache", "dir"]).stdout.strip()


def find_damage(cache: Path) -> Iterator[str]:
    """The objects in the cache whose content is not what their name says, by name."""
    for path in sorted((cache / OBJECTS).glob("[0-9a-f][0-9a-f]/*")):
        if OBJECT_NAME.fullmatch(path.name) and not _holds(path, path.parent.name + path.name):
            yield path.parent.name + path.name


def read_listing(cache: Path, digest: str) -> dict[str, str] | None:
    """MD5 by path of every file of a folder; None where the cache has no sound list of it."""
    path = cache / OBJECTS / digest[:2] / digest[2:]
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
        return hash_md5(path) == digest.removesuffix(FOLDER)
    except FileNotFoundError:
        return False
    except OSError as error:  # which says nothing about the content; the name may hold a pseudonym
        remedy = "check the permissions and the disk, then run the same command again"
        raise StoreError(f"a file cannot be read ({error.strerror})", where="data", remedy=remedy) from None
