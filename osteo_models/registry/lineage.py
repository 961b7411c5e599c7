"""Where a version comes from, and which versions saw a patient or a revision of the data.

All of it is read from what the versions themselves keep, so it holds when the data is gone; the project's repository
adds which commits hold the data and the code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from osteo_models.core.errors import InputError, StaleDataError, WeightsError
from osteo_models.data.code_tree import COMMIT, TREE, find_code
from osteo_models.data.revisions import FOLDER, find_data_commit, is_recorded, read_digest_at
from osteo_models.registry.data_usage import read_exposure
from osteo_models.registry.lookup import VersionInfo, list_versions
from osteo_models.registry.manifest import read_kept
from osteo_models.registry.records import ORIGIN, RECORDS
from osteo_models.registry.tracking import Tracking

DIGEST: Final = r"[0-9a-f]{32}"


@dataclass(frozen=True)
class Sighting:
    """Whether one version saw a patient or a revision.

    Attributes:
        trained: Number of images that its weights were trained on.
        tested: Number of images by stage.
        unknown: Why it cannot be said; empty where it can.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    trained: int = 0
    tested: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    @property
    def saw(self) -> bool:
        """Whether anything was seen."""
        return bool(self.trained or any(self.tested.values()))

    def __str__(self) -> str:
        aliases = "".join(f" @{alias}" for alias in self.aliases)
        tested = ", ".join(f"{stage} ({count} images)" for stage, count in self.tested.items() if count)
        parts = [
            f"trained on ({self.trained} images)" if self.trained else "",
            f"tested on in {tested}" if tested else "",
        ]
        said = f"not known: {self.unknown}" if self.unknown else "; ".join(part for part in parts if part) or "not"
        return f"{self.name} version {self.version}{aliases}: {said}"


def describe_lineage(tracking: Tracking, version: VersionInfo, root: Path, *, patients: bool = False) -> dict[str, Any]:
    """Everything that a version comes from.

    Args:
        tracking: The store.
        version: The version.
        root: The project's folder, whose repository says which commits hold its data and code.
        patients: Whether to list the patients by their pseudonyms.

    Raises:
        StaleDataError: What it keeps cannot say it, or was changed.
    """
    origin = json.loads(read_kept(tracking, version, f"{RECORDS}/{ORIGIN}"))
    exposure = read_exposure(tracking, version)
    keys = {(entry["stage"], entry["protocol"]): entry["key"] for entry in origin["jobs"]}
    sets = {"trained_on": exposure.trained, "tested_on": exposure.holdout}
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "job": version.job,
        "run_id": version.run_id,
        "data": origin["data"] | {"git_commit": find_data_commit(root, origin["data"]["md5"], origin["data"]["path"])},
        "splits": origin["splits"]
        | {
            name: {"patients": len(seen), "images": sum(seen.values())} | ({"list": sorted(seen)} if patients else {})
            for name, seen in sets.items()
        },
        "code": origin["code"]
        | {
            "registered": {name: version.tags[name] for name in (COMMIT, TREE) if name in version.tags},
            "committed": find_code(root, version.tags).commit,
        },
        "environment": origin["environment"],
        "search": origin["search"],
        "parent_weights": origin["parent_weights"],
        "weights_sha256": version.sha256,
        "metrics": [{**file, "job": keys.get((file["stage"], file["protocol"]), "")} for file in exposure.files],
    }


def find_patient(tracking: Tracking, patient: str) -> list[Sighting]:
    """What every version saw of a patient.

    Args:
        tracking: The store.
        patient: The pseudonym.
    """
    found: list[Sighting] = []
    for version in list_versions(tracking):
        place = (version.name, version.version, version.aliases)
        try:
            exposure = read_exposure(tracking, version)
        except (StaleDataError, WeightsError) as error:
            found.append(Sighting(*place, unknown=error.found))
        else:
            tested = {stage: seen.get(patient, 0) for stage, seen in exposure.tested.items()}
            found.append(Sighting(*place, trained=exposure.trained.get(patient, 0), tested=tested))
    return found


def find_data(tracking: Tracking, root: Path, revision: str, data: str) -> tuple[str, list[Sighting]]:
    """What every version saw of a revision of the data.

    Args:
        tracking: The store.
        root: The project's folder.
        revision: DVC's MD5 of the data set, with or without `.dir`, or a git revision.
        data: Of the data set, relative to the project.

    Returns:
        The MD5, and the sightings.

    Raises:
        InputError: There is no such revision.
    """
    versions = list_versions(tracking)
    digest = _find_digest(root, revision, data, {version.tags.get("dvc.data", "") for version in versions})
    found: list[Sighting] = []
    for version in versions:
        place = (version.name, version.version, version.aliases)
        if version.tags.get("dvc.data", "") != digest:
            unknown = "" if version.tags.get("dvc.data") else "it does not say which data it was made from"
            found.append(Sighting(*place, unknown=unknown))
            continue
        try:
            exposure = read_exposure(tracking, version)
        except (StaleDataError, WeightsError) as error:
            found.append(Sighting(*place, unknown=f"it was made from this revision, and {error.found}"))
        else:
            tested = {stage: sum(seen.values()) for stage, seen in exposure.tested.items()}
            found.append(Sighting(*place, trained=sum(exposure.trained.values()), tested=tested))
    return digest, found


def _find_digest(root: Path, revision: str, data: str, known: set[str]) -> str:
    bare = revision.removesuffix(FOLDER)
    for digest in (f"{bare}{FOLDER}", bare):
        if digest in known - {""} or (re.fullmatch(DIGEST, bare) and is_recorded(root, digest, data)):
            return digest
    digest = read_digest_at(root, revision, data) if revision else None
    if digest is None:
        allowed = f"the md5 in {data}.dvc, now or at some commit, or a git revision that has a {data}.dvc"
        raise InputError(f"no revision {revision!r} of the data", where="--data", allowed=allowed)
    return digest


def as_lines(lineage: Mapping[str, Any]) -> list[str]:
    """A lineage for people."""
    data, splits, code, environment = (lineage[name] for name in ("data", "splits", "code", "environment"))
    lines = [
        f"{lineage['name']} version {lineage['version']}{''.join(f' @{alias}' for alias in lineage['aliases'])}",
        f"  data         md5 {data['md5'] or 'not under DVC'}, recorded in commit {data['git_commit'] or 'none'}",
        f"  splits       md5 {splits['md5']}",
    ]
    for name in ("trained_on", "tested_on"):
        lines.append(
            f"    {name.replace('_', ' '):<11}{splits[name]['patients']} patients, {splits[name]['images']} images"
        )
        lines += [f"      {patient}" for patient in splits[name].get("list", [])]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    search, parent = lineage["search"], lineage["parent_weights"]
    lines += [
        f"  code         git tree {code['registered'].get(TREE, 'none')}, in commit {code['committed'] or 'none'}",
        f"    trained    from git tree {code['trained'].get(TREE, 'none')}",
        f"  environment  Python {environment['python']}, {packages}; lock file {environment['lock_sha256'] or 'none'}",
        f"  search       {', '.join(f'{name} {value}' for name, value in search.items()) if search else 'none'}",
        f"  parent       {parent['name'] + ' ' + parent['sha256'] if parent else 'none: trained from the start'}",
        f"  weights      SHA-256 {lineage['weights_sha256']}, job {lineage['job']}",
        "  metrics from",
        *(f"    {each['file']} (job {each['job'] or 'unknown'})" for each in lineage["metrics"]),
    ]
    return lines


def as_dict(sighting: Sighting) -> dict[str, Any]:
    """A sighting for JSON."""
    return asdict(sighting) | {"saw": sighting.saw}
