"""Lineage of a version: data, splits, code, environment, search and weights that it was made from.

All of it is read from what the version keeps itself; the project's repository adds which commits hold data and code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osteo_models.data.code_tree import COMMIT, TREE, find_code
from osteo_models.data.revisions import find_data_commit
from osteo_models.registry.data_usage import read_data_usage
from osteo_models.registry.package import ORIGIN, read_stored_file
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo


def describe_lineage(tracking: Tracking, version: VersionInfo, root: Path, *, patients: bool = False) -> dict[str, Any]:
    """Everything that a version was made from.

    Args:
        tracking: The store.
        version: The version.
        root: The project's folder, whose repository has the commits of its data and code.
        patients: Whether to list the patients by their pseudonyms.

    Raises:
        StaleDataError: The version does not keep it, or what it keeps was changed.
    """
    origin = json.loads(read_stored_file(tracking, version, ORIGIN))
    usage = read_data_usage(tracking, version)
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


def as_lines(lineage: Mapping[str, Any]) -> list[str]:
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
