"""DVC stage `splits`: who is trained on and who is tested."""

from __future__ import annotations

import json

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.files import write_atomically
from osteo_models.data.pairs import make_pairs
from osteo_models.data.splits import PREVIOUS_SPLITS, check_splits, count_splits, extend_splits, make_splits
from osteo_models.data.tables import read_frame
from osteo_models.registry.run_context import RunContext
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def split(context: RunContext) -> dict[str, int]:
    """Split the images, check that no patient is on two sides, and write the tables."""
    params, artifacts = context.params, context.settings.artifacts
    images = read_frame(artifacts / "cohort" / "images.csv")
    previous = context.data / PREVIOUS_SPLITS
    if previous.exists():
        say(f"  {previous.name} of the data set keeps every patient's side")
        table = extend_splits(images, params.splits, read_frame(previous))
    else:
        table = make_splits(images, params.splits)
    check_splits(table)
    pairs = make_pairs(table, params.splits)
    counts = count_splits(table, pairs)
    out = artifacts / "splits"
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "splits.csv", index=False)
    pairs.to_csv(out / "pairs.csv", index=False)
    write_atomically(artifacts / "metrics" / "splits.json", json.dumps(counts, indent=1) + "\n")
    return counts


@flow(name="splits")
def splits() -> None:
    """Make the splits and print their counts."""
    for name, count in split(RunContext()).items():
        say(f"  {name}: {count:,}")


if __name__ == "__main__":
    main(splits)
