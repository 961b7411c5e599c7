"""What versions were made from: data, patients, splits, code, environment, search and parent weights.

All of it is read from the files that the versions keep themselves, so it holds when the data is gone; the project's
repository adds which commits hold data and code.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from osteo_models.core.errors import InputError, StaleDataError, WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, sort_stages
from osteo_models.data.code_tree import COMMIT, TREE, find_code
from osteo_models.data.revisions import FOLDER, find_data_commit, is_recorded, read_digest_at
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import VALIDATION
from osteo_models.registry.manifest import read_manifest
from osteo_models.registry.package import EVIDENCE, MODEL, ORIGIN, Package, open_package
from osteo_models.registry.records import SPLITS
from osteo_models.registry.rules.results import DATA_TAG
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo, list_versions
from osteo_models.serving.model_record import read_record
from osteo_models.training.job_data import Tables, select_rows
from osteo_models.training.outputs import read_job

DIGEST: Final = r"[0-9a-f]{32}"


@dataclass(frozen=True)
class DataUsage:
    """Patients that a version was trained or tested on.

    Attributes:
        trained: Number of images that its weights were trained on, by patient.
        tested: Number of images that its metrics were computed on, by stage and patient; in cross-validation, networks
            of the same architecture were trained on them, too.
        holdout: Those of the hold-out among them, by patient.
        files: Sources of `tested`, with SHA-256, by stage and protocol.
    """

    trained: Mapping[str, int]
    tested: Mapping[str, Mapping[str, int]]
    holdout: Mapping[str, int]
    files: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class UsageCount:
    """Number of images of a patient, or of a revision of the data, that one version was trained and tested on.

    Attributes:
        tested: Number of images by stage.
        unknown: Why it is not known; empty where it is.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    trained: int = 0
    tested: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    @property
    def saw(self) -> bool:
        """Whether there is any image."""
        return bool(self.trained or any(self.tested.values()))

    def __str__(self) -> str:
        aliases = "".join(f" @{alias}" for alias in self.aliases)
        tested = ", ".join(f"{stage} ({count} images)" for stage, count in self.tested.items() if count)
        parts = [f"trained on ({self.trained} images)"] * bool(self.trained) + [f"tested on in {tested}"] * bool(tested)
        usage = f"not known: {self.unknown}" if self.unknown else "; ".join(parts) or "not"
        return f"{self.name} version {self.version}{aliases}: {usage}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"saw": self.saw}


def read_data_usage(tracking: Tracking, version: VersionInfo) -> DataUsage:
    """Read the patients that a version was trained and tested on.

    Raises:
        StaleDataError: The version does not keep them, or what it keeps was changed.
        WeightsError: Something else registered the version.
    """
    with open_package(tracking, version, MODEL, EVIDENCE) as package:
        return _read_data_usage(package)


def _read_data_usage(package: Package) -> DataUsage:
    folder, names = package.folder, (f"{EVIDENCE}/splits/{name}" for name in SPLITS)
    splits, pairs = (read_frame(io.BytesIO(package.read(name))) for name in names)
    tables = Tables(splits, pairs, np.empty((0, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8))
    job = read_job(read_record(folder / MODEL).content)
    rows = np.unique(np.concatenate([select_rows(job, fold, tables).train.ravel() for fold in range(job.folds)]))
    trained = Counter(tables.splits["patient_id"].iloc[rows])
    tested: dict[str, Counter[str]] = {}
    holdout = Counter[str]()
    files: list[dict[str, str]] = []
    for name, digest in read_manifest(folder).items():
        if name.startswith(f"{EVIDENCE}/") and name.endswith(".parquet"):
            frame = pd.read_parquet(folder / name)
            stage, protocol = str(frame["stage"].iloc[0]), str(frame["protocol"].iloc[0])
            files.append({"stage": stage, "protocol": protocol, "file": name, "sha256": digest})
            patients = Counter(frame.drop_duplicates("image_id")["patient_id"])
            tested[stage] = tested.get(stage, Counter()) | patients
            if frame.attrs.get(VALIDATION) == "holdout":
                holdout |= patients
    return DataUsage(dict(trained), {stage: dict(tested[stage]) for stage in sort_stages(tested)}, dict(holdout), files)


def describe_lineage(tracking: Tracking, version: VersionInfo, root: Path, *, patients: bool = False) -> dict[str, Any]:
    """Everything that a version was made from.

    Args:
        root: The project's folder, whose repository has the commits of its data and code.
        patients: Whether to list the patients by their pseudonyms.

    Raises:
        StaleDataError: The version does not keep it, or what it keeps was changed.
    """
    with open_package(tracking, version, ORIGIN, MODEL, EVIDENCE) as package:
        origin, usage = json.loads(package.read(ORIGIN)), _read_data_usage(package)
    keys = {(entry["stage"], entry["protocol"]): entry["key"] for entry in origin["jobs"]}
    splits = dict(origin["splits"])
    for name, images in (("trained_on", usage.trained), ("tested_on", usage.holdout)):
        splits[name] = {"patients": len(images), "images": sum(images.values())}
        splits[name] |= {"list": sorted(images)} if patients else {}
    commit = find_data_commit(root, origin["data"]["md5"], origin["data"]["path"])
    registered = {name: version.tags[name] for name in (COMMIT, TREE) if name in version.tags}
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "job": version.job,
        "run_id": version.run_id,
        "data": origin["data"] | {"git_commit": commit},
        "splits": splits,
        "code": origin["code"] | {"registered": registered, "committed": find_code(root, version.tags).commit},
        **{name: origin[name] for name in ("environment", "search", "parent_weights")},
        "weights_sha256": version.sha256,
        "metrics": [{**file, "job": keys.get((file["stage"], file["protocol"]), "")} for file in usage.files],
    }


def format_lineage(lineage: Mapping[str, Any]) -> list[str]:
    """A lineage for people."""
    data, splits, code, environment = (lineage[name] for name in ("data", "splits", "code", "environment"))
    lines = [
        f"{lineage['name']} version {lineage['version']}{''.join(f' @{alias}' for alias in lineage['aliases'])}",
        f"  data         md5 {data['md5'] or 'not under DVC'}, recorded in commit {data['git_commit'] or 'none'}",
        f"  splits       md5 {splits['md5']}",
    ]
    for name in ("trained_on", "tested_on"):
        patients, images = splits[name]["patients"], splits[name]["images"]
        lines.append(f"    {name.replace('_', ' '):<11}{patients} patients, {images} images")
        lines += [f"      {patient}" for patient in splits[name].get("list", [])]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    search, parent = lineage["search"], lineage["parent_weights"]
    return [
        *lines,
        f"  code         git tree {code['registered'].get(TREE, 'none')}, in commit {code['committed'] or 'none'}",
        f"    trained    from git tree {code['trained'].get(TREE, 'none')}",
        f"  environment  Python {environment['python']}, {packages}; lock file {environment['lock_sha256'] or 'none'}",
        f"  search       {', '.join(f'{name} {value}' for name, value in search.items()) if search else 'none'}",
        f"  parent       {parent['name'] + ' ' + parent['sha256'] if parent else 'none: trained from the start'}",
        f"  weights      SHA-256 {lineage['weights_sha256']}, job {lineage['job']}",
        "  metrics from",
        *(f"    {file['file']} (job {file['job'] or 'unknown'})" for file in lineage["metrics"]),
    ]


def find_patient(tracking: Tracking, patient: str) -> list[UsageCount]:
    """The images of a patient (a pseudonym) that every version was trained and tested on."""
    versions = list_versions(tracking)
    return [_count(tracking, version, lambda images: images.get(patient, 0)) for version in versions]


def find_data(tracking: Tracking, root: Path, revision: str, data: str) -> tuple[str, list[UsageCount]]:
    """The images of a revision of the data that every version was trained and tested on.

    Args:
        root: The project's folder.
        revision: DVC's MD5 of the data set, with or without `.dir`, or a git revision.
        data: Path of the data set, relative to the project.

    Returns:
        The MD5, and the counts.

    Raises:
        InputError: There is no such revision.
    """
    versions = list_versions(tracking)
    digest = _find_digest(root, revision, data, {version.tags.get(DATA_TAG, "") for version in versions})
    found: list[UsageCount] = []
    for version in versions:
        if version.tags.get(DATA_TAG, "") == digest:
            made_from = "it was made from this revision, and "
            found.append(_count(tracking, version, lambda images: sum(images.values()), made_from))
        else:
            unknown = "" if version.tags.get(DATA_TAG) else "it does not record which data it was made from"
            found.append(UsageCount(version.name, version.version, version.aliases, unknown=unknown))
    return digest, found


def _count(
    tracking: Tracking, version: VersionInfo, count: Callable[[Mapping[str, int]], int], context: str = ""
) -> UsageCount:
    own = (version.name, version.version, version.aliases)
    try:
        usage = read_data_usage(tracking, version)
    except (StaleDataError, WeightsError) as error:
        return UsageCount(*own, unknown=f"{context}{error.found}")
    return UsageCount(*own, count(usage.trained), {stage: count(images) for stage, images in usage.tested.items()})


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
