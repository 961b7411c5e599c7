"""A search on made-up images, as a process that can be killed: `python -m tests.scenarios.searching FOLDER N`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from osteo_models.core.params import parse_params
from osteo_models.core.settings import die_with_parent, load_settings
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.search_runs import begin_search
from osteo_models.search.development import Development
from osteo_models.search.study import Study, StudySpec
from osteo_models.search.study_storage import storage_url
from osteo_models.training.fold import Arrays
from osteo_models.training.ray_cluster import open_cluster
from osteo_models.training.recipe import Recipe
from pipelines.search import SearchTask, explore
from tests.conftest import ROOT

PATIENTS, SLICES, EPOCHS = 20, 4, 3


def make_development() -> Development:
    """Noise, brighter below in osteoporosis."""
    patient = np.repeat(np.arange(PATIENTS), SLICES)
    target = patient % 2
    pixels = np.random.default_rng(3).integers(0, 150, (len(patient), 80, 60))
    pixels[target == 1, 40:] += 40
    return Development(Arrays(pixels.astype(np.uint8), target, np.zeros(len(patient), np.int64)), patient)


def make_spec(development: Development, candidates: int) -> StudySpec:
    """The project's space, small networks, two folds."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    search = parse_params(raw).search
    budget = search.budgets["quick"].model_copy(update={"candidates": candidates, "folds": 2, "epochs": EPOCHS})
    recipe = Recipe(EPOCHS, precision="float32")
    spec = StudySpec(search.space, budget, None, recipe, 7, 1, "cpu", {}, {"search": 1})
    return replace(spec, inputs=development.digest_inputs(spec.deal(development)))


@contextmanager
def open_search(folder: Path, candidates: int, address: str | None = None) -> Iterator[SearchTask]:
    """A search in a folder of its own."""
    development = make_development()
    settings = replace(load_settings(folder), tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    study, context = Study(storage_url(settings.state, None), make_spec(development, candidates)), RunContext(settings)
    run_id = begin_search(context.tracking, study.spec.key, {}, {})
    with open_cluster(address, development.arrays, cpus=1, gpus=0, precision="float32") as cluster:
        yield SearchTask(study, development, cluster, context, run_id)


def repeat(search: SearchTask, kind: type[Study] = Study, **changes: object) -> SearchTask:
    """The same search with another study, of a specification with changes."""
    study = kind(storage_url(search.context.settings.state, None), replace(search.study.spec, **changes))
    run_id = begin_search(search.context.tracking, study.spec.key, {}, {})
    return replace(search, study=study, run_id=run_id, logged=set())


if __name__ == "__main__":
    die_with_parent()
    with open_search(Path(sys.argv[1]), int(sys.argv[2])) as search:
        explore.fn(search)
