"""Whether a version's evidence is still the evidence that it was promoted on: the journal keeps the hash."""

from __future__ import annotations

import json

from osteo_models.registry.journal import Journal
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import MANIFEST_TAG


def find_unjudged(journal: Journal, version: VersionInfo) -> str:
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


def judge_again(version: VersionInfo) -> str:
    """The way out, as an error or finding says it."""
    return (
        f"restore it from a backup, or have it judged as it is now by `osteo promote {version.name} {version.version}`"
    )
