"""Proof that versions, data and DVC's cache are to the byte what was recorded, and that nothing they need is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osteo_models.core.errors import StaleDataError, StoreError, WeightsError
from osteo_models.data.revisions import FOLDER, compare_folder, find_damage, hash_data, read_data_digest
from osteo_models.data.revisions import read_listing as read_folder
from osteo_models.registry.journal import Journal
from osteo_models.registry.package import EVIDENCE, MANIFEST_TAG, RECORDS, REMEDY, open_package
from osteo_models.registry.records import find_changes
from osteo_models.registry.retention import Runs, find_required_runs
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo, get_version, list_versions

ADDED: Final = "delete it: it was put there after the version was registered"
REMEDY_OF_TAGS: Final = "set it back in MLflow, or register a new version with `dvc repro -f register`"


def find_changed_evidence(journal: Journal, version: VersionInfo) -> str:
    """How a version's manifest differs from that of its last promotion; empty where it does not, or there was none."""
    promotions = [
        one
        for one in journal.history(version.name)
        if (one.action, one.version_after) == ("promotion", version.version)
    ]
    if not promotions:
        return ""
    last, found = promotions[-1], version.tags.get(MANIFEST_TAG, "")
    try:
        judged = str(json.loads(last.evidence).get(MANIFEST_TAG, ""))
    except ValueError:
        judged = ""  # altered, and so is its own hash
    if judged == found:
        return ""
    shown = f"manifest {judged[:12] or 'unknown'} was judged, {found[:12] or 'none'} is here"
    return f"its evidence is not that of its promotion (event {last.position}): {shown}"


def suggest_promotion(version: VersionInfo) -> str:
    """The way out, as an error or finding says it."""
    return (
        f"restore it from a backup, or have it judged as it is now by `osteo promote {version.name} {version.version}`"
    )


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded: what, where, and the way out."""

    where: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"


def choose_versions(tracking: Tracking, reference: str | None) -> list[VersionInfo]:
    """The versions that a reference names: all, those of a model, or one.

    Args:
        reference: `NAME`, `NAME@alias`, `NAME/3`, or None for all.

    Raises:
        InputError: There is no such model or version.
    """
    if reference and ("@" in reference or "/" in reference):
        return [get_version(tracking, reference)]
    return list_versions(tracking, reference)


def check_version(
    tracking: Tracking, version: VersionInfo, runs: Runs, *, every_byte: bool = True
) -> Iterator[Finding]:
    """Compare every file, tag and metric of a version with what was registered, and look for the runs that it needs.

    Args:
        runs: From `read_runs`.
        every_byte: Whether to read all files; else only those that record tags, metrics and jobs.
    """
    where, findings, jobs = version.title, list[Finding](), list[str]()
    try:
        with open_package(tracking, version, *([] if every_byte else [RECORDS]), check=False) as package:
            damage = package.find_damage()
            findings += [Finding(where, str(fault), ADDED if fault.added else REMEDY) for fault in damage]
            if not findings:
                findings += [Finding(where, change, REMEDY_OF_TAGS) for change in find_changes(package)]
            jobs = package.list_jobs()
    except (StaleDataError, StoreError, WeightsError) as error:
        if not findings or isinstance(error, StoreError):  # else a finding names the file already
            findings.append(Finding(where, error.found, error.remedy))
    yield from findings
    for required in find_required_runs(runs, version, jobs):
        if required.run_id not in runs.by_id:
            remedy = "restore the database from a backup, or make it again with `dvc repro -f experiments`"
            yield Finding(where, f"{required.role} is gone from MLflow", remedy)
        elif runs.is_deleted(required.run_id):
            remedy = f"restore it with `mlflow runs restore --run-id {required.run_id}` in this store"
            yield Finding(where, f"{required.role} was deleted", remedy)


def check_judged(journal: Journal, version: VersionInfo) -> Iterator[Finding]:
    """Whether a version's manifest is still the one that it was promoted on."""
    if fault := find_changed_evidence(journal, version):
        yield Finding(version.title, fault, suggest_promotion(version))


def check_evidence(tracking: Tracking, version: VersionInfo) -> Iterator[Finding]:
    """The files of evidence against the manifest, and no others, which may be large."""
    with open_package(tracking, version, EVIDENCE, check=False) as package:
        for damage in package.find_damage():
            yield Finding(version.title, str(damage), REMEDY)


def check_data(root: Path, data: str, cache: Path | None, *, paths: bool = False) -> Iterator[Finding]:
    """Every file of the data set against data.dvc, and every object of DVC's cache against its name.

    Args:
        root: The project's folder.
        data: Of the data set, relative to it.
        cache: DVC's, from `find_cache`.
        paths: Whether to name the files of the data set, whose names hold pseudonyms.
    """
    digest = read_data_digest(root, data)
    for name in find_damage(cache) if cache else ():
        remedy = f"delete the file {name[2:]} in files/md5/{name[:2]} there, then `dvc pull`, or `dvc add {data}`"
        yield Finding("DVC cache", f"object {name} is not what its name says", remedy)
    if digest is None:
        yield Finding(f"{data}.dvc", "missing or unreadable", f"get it back with `git checkout {data}.dvc`")
        return
    listing = read_folder(cache, digest) if cache and digest.endswith(FOLDER) else None
    if not (root / data).exists():
        yield Finding(data, "the data set is not here", f"get it with `dvc checkout {data}` or `dvc pull`")
    elif listing is not None:
        yield from _compare_data(root / data, data, listing, paths=paths)
    elif (found := hash_data(root / data)) != digest:
        remedy = f"get it back with `dvc checkout --force {data}` or `dvc pull --force`"
        yield Finding(data, f"the files (md5 {found}) are not those that {data}.dvc records (md5 {digest})", remedy)


def _compare_data(folder: Path, data: str, listing: dict[str, str], *, paths: bool) -> Iterator[Finding]:
    numbers = {name: number for number, name in enumerate(sorted(listing), start=1)}
    for name, problem in compare_folder(folder, listing):
        number = f"file {numbers[name]} of {len(listing)} in the order of names" if name in numbers else "a file"
        shown = name if paths else f"{number} (`--paths` names it)"
        # DVC believes that a file with its old size and time is unchanged: only a deleted one is fetched again.
        remedy = (
            f"delete it, then `dvc checkout {data}`" if problem != "not recorded" else f"`dvc add {data}` or delete it"
        )
        yield Finding(data, f"{shown} is {problem}", remedy)
