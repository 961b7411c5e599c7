"""Code that computes results does not change without a decision about its version."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

from tests.conftest import ROOT
from tests.contracts.code_versions import COMPONENTS, PACKAGE, TABLE, list_faults, raise_versions, read_version, record

# What trials, feature extraction and the study import, and what cannot change their results.
ROOTS = ("training.trial", "training.frozen_features", "search.study", "training.backbone_cache")
BOOKKEEPING = {
    "core.errors": "messages",
    "core.files": "writes and hashes files",
    "core.terms": "names; the classes are listed, the size of images is one of their content",
    "core.params": "values, which are in the key",
    "core.params_faults": "messages",
    "core.stage_table": "values, which are in the key",
    "core.search_params": "values, which are in the key",
    "core.processes": "processes",
    "models": "imports",
    "models.catalog": "finds builders; `build` is listed",
    "training.jobs": "the key; `fold_seed` is listed",
    "training.identity": "the key",
    "training.pretrained_plan": "the key; `load_pretrained` is listed",
    "training.backbone_cache": "Ray tasks; `_extract_chunk` is listed",
    "training.ray_cluster": "starts Ray",
    "training.failures": "messages",
    "search.leaderboard": "reads a study",
    "training.reaper": "ends processes",
    "training.result_store": "writes and reads results and checkpoints",
    "search.development": "images and folds, which are in the key",
    "search.study_storage": "opens a study",
}


def test_the_code_is_what_its_versions_were_declared_for() -> None:
    assert list(list_faults(ROOT)) == []


def test_all_code_that_a_trial_imports_belongs_to_a_component_or_is_bookkeeping() -> None:
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True)
    reached = {f"{PACKAGE}.{name}" for name in ROOTS}
    for name in ROOTS:
        reached |= graph.find_upstream_modules(f"{PACKAGE}.{name}")
    listed = {source.partition(":")[0] for sources in COMPONENTS.values() for source in sources}
    own = {name.removeprefix(f"{PACKAGE}.") for name in reached} - {PACKAGE}
    unknown = {name for name in own - BOOKKEEPING.keys() if f"{name.replace('.', '/')}.py" not in listed}
    assert unknown == set(), "list them in code_versions.COMPONENTS, or say in BOOKKEEPING why they change no result"
    assert BOOKKEEPING.keys() - own == set()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library and its table of versions."""
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / TABLE).parent.mkdir(parents=True)
    record(tmp_path)
    return tmp_path


def edit(root: Path, file: str, old: str, new: str) -> None:
    path = root / PACKAGE / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/fit.py", "        self.network.train()\n", "        # A comment.\n        self.network.train()\n"),
        ("training/fit.py", '"""Train for one epoch, then score the test set.', '"""Other words.'),
        ("training/recipe.py", "epochs: int = 20", "epochs: int = (\n        20\n    )"),
        ("training/checkpoint.py", "resumed after epoch %d", "goes on after epoch %d"),
        ("training/jobs.py", "KEY_LENGTH = 16", "KEY_LENGTH = 20"),
        ("training/cross_validation.py", "CHECKPOINT_SECONDS: Final = 2.0", "CHECKPOINT_SECONDS: Final = 3.0"),
        ("training/reaper.py", "import", "# A comment.\nimport"),
    ],
)
def test_words_and_bookkeeping_need_no_decision(copy: Path, file: str, old: str, new: str) -> None:
    edit(copy, file, old, new)
    assert list(list_faults(copy)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "components"),
    [
        ("training/recipe.py", "ADAM_EPSILON: Final = 1e-7", "ADAM_EPSILON: Final = 1e-8", ["training", "features"]),
        ("training/jobs.py", "(self.seed, fold)", "(fold, self.seed)", ["training"]),
        ("training/fit.py", "eps=ADAM_EPSILON", "eps=2 * ADAM_EPSILON", ["training"]),
        ("training/backbone_cache.py", "torch.set_num_threads(count_threads(cpus))", "pass", ["features"]),
        ("models/keras_layers.py", "total // 2, total - total // 2", "total - total // 2, total // 2", ["layers"]),
        ("models/head.py", "HEAD_UNITS: Final = 128", "HEAD_UNITS: Final = 64", ["head"]),
        ("models/dual_block.py", "self.block1(images) + self", "self.block1(images) - self", ["dual_block"]),
        ("models/traditional.py", "= (64, 32)", "= (64, 64)", ["traditional"]),
        ("models/pretrained_weights.py", "tensor.float() if", "tensor.half() if", ["pretrained"]),
        ("search/study.py", "REDUCTION: Final = 3", "REDUCTION: Final = 4", ["search"]),
        ("core/terms.py", "CONTROL: Final = 0", "CONTROL: Final = 1", ["training"]),
    ],
)
def test_a_change_of_what_is_computed_asks_for_a_decision(
    copy: Path, file: str, old: str, new: str, components: list[str]
) -> None:
    before = {name: read_version(copy / PACKAGE / COMPONENTS[name][0]) for name in COMPONENTS}
    edit(copy, file, old, new)
    faults = list(list_faults(copy))
    assert len(faults) == len(components)
    for fault, name in zip(faults, components, strict=True):
        assert fault.startswith(file) and f"the version of `{name}`" in fault
        assert "code_versions record`" in fault and f"code_versions raise {name}`" in fault
    raise_versions(copy, [])
    assert all("recorded is" in fault for fault in list_faults(copy))
    record(copy)
    assert list(list_faults(copy)) == []
    after = {name: read_version(copy / PACKAGE / COMPONENTS[name][0]) for name in COMPONENTS}
    assert after == {name: version + (name in components) for name, version in before.items()}


def test_results_that_stay_the_same_are_recorded_under_their_version(copy: Path) -> None:
    edit(copy, "training/fit.py", "self.network.train()\n", "self.network.train(True)\n")
    assert list(list_faults(copy))
    record(copy)
    assert list(list_faults(copy)) == [] and read_version(copy / PACKAGE / "training/fit.py") == read_version(
        ROOT / PACKAGE / "training/fit.py"
    )
