"""A job is trained again where its result would differ, and nowhere else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from osteo_models.core.params import parse_params
from osteo_models.models import dual_block
from osteo_models.training.job_data import Tables
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from tests.conftest import ROOT

RECIPE = Recipe(epochs=2, precision="float32")
STUDY = "study"

# Prints the key of every job, and of the study, as the code in the working directory has them.
PLAN = """
import json, sys, warnings
from pathlib import Path
from types import SimpleNamespace
warnings.simplefilter("ignore")
from osteo_models.core.params import load_params
from osteo_models.search.development import select_development
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.job_data import load_tables
from pipelines.search import _specify
artifacts = Path(sys.argv[1])
tables, params = load_tables(artifacts), load_params(artifacts / "params.yaml")
jobs = plan_jobs(params, tables, Recipe(epochs=2, precision="float32"))
keys = {f"{job.stage} {job.name}": job.key for job in jobs}
cluster = SimpleNamespace(precision="float32", device="cpu")
keys["study"] = _specify(params, select_development(tables.splits, tables.images, "mri"), cluster).key
print(json.dumps(keys))
"""

# Text to put in the place of another, or to append, by file.
WORDS = {
    "training/reaper.py": ("", "# A comment.\n"),
    "training/tune.py": ("", "# A comment.\n"),
    "training/fit.py": ("        losses = [", "        # A comment.\n        losses = ["),
    "training/inference.py": ("", "# A comment.\n"),
    "training/frozen_features.py": ("", "# A comment.\n"),
    "training/checkpoint.py": ("resumed after epoch %d from %s", "goes on after epoch %d from %s"),
    "search/study.py": ("", "# A comment.\n"),
    "models/dual_block.py": ("", "# A comment.\n"),
    "models/pretrained.py": ("", "# A comment.\n"),
}
ARCHITECTURE = """

@register("one_layer", image_sets=SINGLE_INPUT, versions={"one_layer": 1})
def build_one_layer(generator: torch.Generator) -> nn.Module:
    return build_traditional(generator, filters=(1,), dense=())
"""
CODE = {
    "words": WORDS,
    "architecture": {"models/traditional.py": ("", ARCHITECTURE)},
    "dealing": {"search/development.py": ("random_state=seed", "random_state=seed + 1")},
}


@pytest.fixture
def plan_with(tables: Tables, raw_params: dict, small_params, tmp_path: Path):
    """Gives the keys of jobs and study by a copy of the code in which texts were replaced."""
    artifacts = tmp_path / "artifacts"
    for name in ("cohort", "splits"):
        (artifacts / name).mkdir(parents=True)
    np.save(artifacts / "cohort" / "images.npy", tables.images)
    tables.splits.to_csv(artifacts / "cohort" / "images.csv", index=False)
    tables.splits.to_csv(artifacts / "splits" / "splits.csv", index=False)
    tables.pairs.to_csv(artifacts / "splits" / "pairs.csv", index=False)
    (artifacts / "params.yaml").write_text(yaml.safe_dump(raw_params))

    def plan(name: str) -> dict[str, str]:
        copy = tmp_path / name
        for package in ("osteo_models", "pipelines"):
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        for path, (old, new) in CODE.get(name, {}).items():
            source = (copy / "osteo_models" / path).read_text(encoding="utf-8")
            assert old in source, path
            changed = source.replace(old, new, 1) if old else source + new
            (copy / "osteo_models" / path).write_text(changed, encoding="utf-8")
        command = [sys.executable, "-c", PLAN, str(artifacts)]
        done = subprocess.run(command, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return plan


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The names whose key is another one."""
    assert before.keys() == after.keys()
    return {name for name in before if after[name] != before[name]}


def test_code_that_does_not_change_results_changes_no_key_and_fold_dealing_that_of_the_study(plan_with) -> None:
    before = plan_with("as it is")
    assert len(before) > 20
    assert differing(before, plan_with("words")) == set()
    assert differing(before, plan_with("architecture")) == set()
    assert differing(before, plan_with("dealing")) == {STUDY}


@pytest.fixture
def keys(small_params):
    """Gives the key of every job, by its stage and name."""

    def plan(tables: Tables, params=small_params, recipe: Recipe = RECIPE) -> dict[str, str]:
        return {f"{job.stage} {job.name}": job.key for job in plan_jobs(params, tables, recipe)}

    return plan


def with_pixel(tables: Tables, *, modality: str, holdout: int) -> Tables:
    """The tables with one pixel of one image changed."""
    splits = tables.splits
    chosen = (splits["modality"] == modality) & (splits["holdout"] == holdout)
    if modality == "ct" and not holdout:  # one that every set of pairs holds
        chosen &= splits["image_id"].isin(shared_by_all(tables.pairs))
    images = tables.images.copy()
    images[int(np.flatnonzero(chosen)[0]), 40, 30] ^= 1
    return replace(tables, images=images)


def shared_by_all(pairs: pd.DataFrame) -> set[str]:
    """CT images that are paired in each of the splits."""
    return set.intersection(*(set(part["ct_image_id"]) for _, part in pairs.groupby("split")))


def uses(name: str, *images: str) -> bool:
    """Whether a job is of one of these image sets."""
    return name.rpartition("-")[0].rpartition("-")[2] in images


@pytest.mark.parametrize("modality", ["mri", "ct"])
def test_one_pixel_retrains_the_jobs_that_see_its_image(keys, tables: Tables, modality: str) -> None:
    before = keys(tables)
    changed = differing(before, keys(with_pixel(tables, modality=modality, holdout=0)))
    other = {"mri": "ct", "ct": "mri"}[modality]
    assert not any(uses(name, other) for name in changed)
    assert {name for name in before if uses(name, modality, "combined")} <= changed
    held_out = differing(before, keys(with_pixel(tables, modality=modality, holdout=1)))
    assert held_out == {
        name for name in before if name.startswith("stage-5") and uses(name, modality, "combined", "multimodal")
    }


def test_one_changed_fold_retrains_its_protocol_and_modality(keys, tables: Tables) -> None:
    """Two patients of one class change places."""
    splits = tables.splits.copy()
    chosen = splits[(splits["modality"] == "ct") & (splits["holdout"] == 0) & (splits["target"] == 0)]
    of_patient = chosen.drop_duplicates("patient_id").set_index("patient_id")["fold_patient"]
    first = of_patient.index[0]
    second = of_patient.index[of_patient != of_patient.iloc[0]][0]
    for patient, fold in ((first, of_patient[second]), (second, of_patient[first])):
        splits.loc[splits["patient_id"] == patient, "fold_patient"] = fold
    before = keys(tables)
    assert differing(before, keys(replace(tables, splits=splits))) == {
        name for name in before if name.startswith(("stage-2", "stage-3")) and name.endswith("-patient")
    }


def test_other_pairs_retrain_the_jobs_that_are_trained_on_them(keys, tables: Tables) -> None:
    pairs = tables.pairs.copy()
    pairs.loc[pairs["split"] == "patient_rest"] = pairs[pairs["split"] == "patient_rest"][::-1].to_numpy()
    changed = differing(keys(tables), keys(replace(tables, pairs=pairs)))
    assert changed == {"stage-6 multimodal-multimodal-patient"}


def test_columns_and_rows_that_a_job_does_not_read_retrain_nothing(keys, tables: Tables) -> None:
    before = keys(tables)
    assert differing(before, keys(replace(tables, splits=tables.splits.assign(age_years=50, sex="M")))) == set()
    # A new CT image, first in the table: no MRI image has the row that it had.
    order = [int(np.flatnonzero(tables.splits["modality"] == "ct")[0]), *range(len(tables.splits))]
    splits = tables.splits.iloc[order].reset_index(drop=True)
    splits.loc[0, "image_id"] = "new"
    changed = differing(before, keys(replace(tables, splits=splits, images=tables.images[order])))
    assert changed and not any(uses(name, "mri") for name in changed)


def test_seed_recipe_and_precision_retrain_everything(keys, tables: Tables, raw_params: dict, small_params) -> None:
    before = keys(tables)
    raw_params["experiments"]["seed"] += 1
    for after in (
        keys(tables, parse_params(raw_params)),
        keys(tables, recipe=replace(RECIPE, precision="bfloat16")),
        keys(tables, recipe=replace(RECIPE, learning_rate=0.01)),
    ):
        assert differing(before, after) == set(before)


def test_a_raised_version_retrains_the_jobs_that_run_that_code(
    keys, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(tables)
    monkeypatch.setitem(dual_block.VERSIONS, "dual_block", 99)
    dual = {name for name in before if "unimodal" in name or "multimodal" in name}
    assert differing(before, keys(tables)) == dual
    monkeypatch.undo()
    monkeypatch.setattr("osteo_models.training.frozen_features.VERSION", 99)
    assert differing(before, keys(tables)) == {name for name in before if "lite0" in name}
    monkeypatch.setattr("osteo_models.training.fit.VERSION", 99)
    assert differing(before, keys(tables)) == set(before)
