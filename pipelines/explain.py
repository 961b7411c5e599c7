"""DVC stage `explain`: fixed cases of every network of a hold-out stage, with a check of the maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import StaleDataError
from osteo_models.core.params import Params
from osteo_models.core.terms import model_name
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.explain.explained_cases import Scenery, choose_cases, read_scenery
from osteo_models.explain.gallery import (
    Gallery,
    choose_effort,
    describe_gallery,
    draw_fresh,
    make_gallery,
    write_tables,
)
from osteo_models.explain.maps import pick_device
from osteo_models.registry.run_context import RunContext
from osteo_models.serving.model_record import RECORD, ModelRecord, read_record
from osteo_models.serving.network import read_network, set_threads
from pipelines.entry import main, say

Known = Mapping[str, Predictions]


@task(task_run_name="explain {folder.name}", cache_policy=NO_CACHE)
def explain_model(
    folder: Path, record: ModelRecord, known: Known, scenery: Scenery, params: Params, out: Path
) -> Gallery:
    """Explain the cases of one network, and write their pictures."""
    name = model_name(record.architecture, record.images)
    if name not in known:
        raise StaleDataError(f"no hold-out predictions of {name}", remedy="run `dvc repro experiments`")
    device = pick_device("auto" if params.experiments.resources.gpu else "cpu")
    effort = choose_effort(record.architecture, record.spec)
    gallery = make_gallery(
        name,
        [scenery.find(case, record.prepare) for case in choose_cases(known[name], record.threshold)],
        read_network(folder, device=device).network,
        draw_fresh(record.architecture, record.spec, effort.draws),
        out=out,
        seed=params.experiments.seed,
        samples=effort.samples,
        device=device,
        synthetic=params.data.synthetic is not None,
    )
    say(f"  {name}: {describe_gallery(gallery)}; {effort.samples} samples, {device}")
    return gallery


@flow(name="explain")
def explain() -> None:
    """Explain every network of a hold-out stage."""
    context = RunContext()
    settings, params = context.settings, context.params
    out = settings.artifacts / "explain"
    set_threads(os.cpu_count() or 1)  # no other stage runs at the same time
    known = {
        model_name(job.architecture, job.images): job
        for job in read_predictions(settings.artifacts)
        if job.stage == params.stage_table.find_holdout(job.architecture, job.images)
    }
    scenery = read_scenery(settings.artifacts, context.data)
    galleries: dict[str, Gallery] = {}
    for folder in sorted(path.parent for path in settings.artifacts.glob("models/*/model.json")):
        record = read_record(folder / RECORD)
        name = model_name(record.architecture, record.images)
        if record.spec.get("fusion") == "feature":
            say(f"  {name}: left out: it scores pairs of images, not single images")
            continue
        galleries[name] = explain_model(folder, record, known, scenery, params, out)
    write_tables(galleries, out)


if __name__ == "__main__":
    main(explain)
