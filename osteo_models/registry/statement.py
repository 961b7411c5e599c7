"""Tags and metrics as they were registered, kept with the files of a version, so that a later change is found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Final

from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import MANIFEST_TAG, read_kept
from osteo_models.registry.origin import RECORDS
from osteo_models.registry.tracking import Tracking

STATEMENT: Final = "version.json"
CARD: Final = "card.md"
OWN: Final = ("osteo.", "git.", "dvc.", "stage_", "profile", "synthetic")  # how tags that we write begin


def write_statement(tags: Mapping[str, str], metrics: Mapping[str, float]) -> bytes:
    """The content of the file."""
    return (json.dumps({"tags": dict(tags), "metrics": dict(metrics)}, indent=1, sort_keys=True) + "\n").encode()


def find_changes(tracking: Tracking, version: VersionInfo) -> Iterator[str]:
    """How a version in MLflow differs from what it stated when it was registered.

    Tags that other programs added are ignored, and the description may have grown: waivers are added at its end.

    Raises:
        StaleDataError: It keeps no statement, or the file was changed.
        StoreError: The store cannot be used.
    """
    stated = json.loads(read_kept(tracking, version, f"{RECORDS}/{STATEMENT}"))
    # A manifest cannot hold its own hash.
    own = {name: text for name, text in version.tags.items() if name.startswith(OWN) and name != MANIFEST_TAG}
    for kind, shown in (("tag", own), ("metric", version.metrics)):
        known = stated[f"{kind}s"]
        for name in sorted({*known, *shown}):
            if name not in shown:
                yield f"{kind} {name} is gone"
            elif name not in known:
                yield f"{kind} {name} was added"
            elif not _is_equal(known[name], shown[name]):
                yield f"{kind} {name} is {shown[name]}, registered as {known[name]}"
    card = read_kept(tracking, version, f"{RECORDS}/{CARD}").decode().rstrip("\n")
    with tracking.reading():
        described = tracking.client.get_model_version(version.name, str(version.version)).description or ""
    if not described.startswith(card):
        yield "the description does not begin with the card that was registered"


def _is_equal(known: str | float, shown: str | float) -> bool:
    if isinstance(known, float) and isinstance(shown, float):
        return known == shown or (math.isnan(known) and math.isnan(shown))
    return known == shown
