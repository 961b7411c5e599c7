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
from osteo_models.search.study import Design, Study
from osteo_models.search.study_storage import open_study, storage_url
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import Arrays
from osteo_models.training.tune import open_cluster
from pipelines.search import Bench, explore
from tests.conftest import ROOT

PATIENTS, SLICES, EPOCHS = 20, 4, 3


def make_development() -> Development:
    """Noise, brighter below in osteoporosis."""
    patient = np.repeat(np.arange(PATIENTS), SLICES)
    target = patient % 2
    pixels = np.random.default_rng(3).integers(0, 150, (len(patient), 80, 60))
    pixels[target == 1, 40:] += 40
    return Development(Arrays(pixels.astype(np.uint8), target, np.zeros(len(patient), bool)), patient)


def make_design(development: Development, candidates: int) -> Design:
    """The project's space, small networks, two folds."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    search = parse_params(raw).search
    budget = search.budgets["quick"].model_copy(update={"candidates": candidates, "folds": 2, "epochs": EPOCHS})
    recipe = Recipe(EPOCHS, precision="float32")
    design = Design(search.space, budget, None, recipe, 7, 1, "cpu", {}, {"search": 1})
    folds = development.deal(budget.folds, design.derive_seed("folds"))
    return replace(design, inputs=development.digest_inputs(folds))


@contextmanager
def open_bench(folder: Path, candidates: int, address: str | None = None) -> Iterator[Bench]:
    """All that the pipeline's steps share, in a folder of its own."""
    development = make_development()
    design = make_design(development, candidates)
    settings = replace(load_settings(folder), tracking_uri=f"sqlite:///{folder / '.osteo' / 'mlflow.db'}")
    study = Study(open_study(storage_url(settings.state, None), design.key), design)
    context = RunContext(settings)
    run_id = begin_search(context.tracking, design.key, {}, {})
    with open_cluster(address, development.arrays, cpus=1, gpus=0, precision="float32") as cluster:
        yield Bench(design, study, development, cluster, context, run_id, (1, 0))


def repeat(bench: Bench, **changes: object) -> Bench:
    """The same bench with another design."""
    design = replace(bench.design, **changes)
    study = Study(open_study(storage_url(bench.context.settings.state, None), design.key), design)
    run_id = begin_search(bench.context.tracking, design.key, {}, {})
    return replace(bench, design=design, study=study, run_id=run_id, logged=set())


if __name__ == "__main__":
    die_with_parent()
    with open_bench(Path(sys.argv[1]), int(sys.argv[2])) as found:
        explore.fn(found)
