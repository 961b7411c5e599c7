"""Edit, `dvc repro`, commit, in any order, leads to a champion; and what was registered stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from osteo_models.ops.doctor import find_problems
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.versions import get_version, list_versions
from tests.registry.photograph import photograph
from tests.registry.toy_project import NAME, ToyProject

REFUSED = "code_pinned: found git tree"


@pytest.fixture
def toy(tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch) -> ToyProject:
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_JOURNAL_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OSTEO_USER", "A. Keeper")
    made = ToyProject(tmp_path / "project", fresh_store)
    monkeypatch.chdir(made.root)
    return made


def test_edit_repro_commit(toy: ToyProject) -> None:
    toy.edit(seed=7)
    toy.dvc("repro")
    refused = toy.osteo("promote", NAME, code=3)
    assert REFUSED in refused and "commit it, then promote again" in refused
    toy.commit("seed 7")
    (toy.root / "README.md").write_text("A guide.")
    toy.commit("seed 7, and a guide", "--amend")
    assert "version 1 is now champion" in toy.osteo("promote", NAME)
    assert [each.version for each in list_versions(toy.tracking)] == [1]
    assert find_problems(RunContext(toy.settings)) == []


def test_commit_edit_repro(toy: ToyProject) -> None:
    toy.dvc("repro")
    toy.commit("start")
    assert "version 1 is now champion" in toy.osteo("promote", NAME)
    toy.edit(seed=8)
    toy.dvc("repro")
    assert REFUSED in toy.osteo("promote", NAME, code=3)
    toy.git("stash")
    assert REFUSED in toy.osteo("promote", NAME, code=3)
    toy.git("stash", "pop")
    toy.commit("seed 8")
    assert "version 2 is now champion" in toy.osteo("promote", NAME)


def test_edit_commit_repro(toy: ToyProject) -> None:
    toy.edit(seed=9)
    toy.commit("seed 9")
    toy.dvc("repro")  # dvc.lock is not committed, and says nothing about the code
    assert "version 1 is now champion" in toy.osteo("promote", NAME)


def test_code_that_was_changed_after_the_registration(toy: ToyProject) -> None:
    script = toy.root / "pipelines" / "toy.py"
    original = script.read_text() + "# tried\n"
    script.write_text(original)
    (toy.root / "pipelines" / "new.py").write_text("")  # git does not know it yet
    toy.dvc("repro")
    script.write_text(original + "# and changed\n")
    toy.commit("another")
    assert REFUSED in toy.osteo("promote", NAME, code=3)
    toy.git("checkout", "-qb", "side")
    script.write_text(original)
    toy.commit("the original")
    toy.git("checkout", "-q", "main")
    assert "version 1 is now champion" in toy.osteo("promote", NAME)


def test_an_applied_experiment_and_a_champion_that_stays_as_it_is(toy: ToyProject) -> None:
    toy.dvc("repro")
    toy.commit("start")
    toy.osteo("promote", NAME)
    champion = get_version(toy.tracking, f"{NAME}@champion")
    before = photograph(toy.tracking, champion)
    toy.dvc("exp", "run", "-q", "-n", "tried", "-S", "evaluate.seed=1000")
    toy.git("checkout", "-q", "--", ".")
    toy.dvc("exp", "apply", "-q", "tried")
    challenger = get_version(toy.tracking, f"{NAME}@challenger")
    assert (challenger.version, challenger.sha256) == (2, champion.sha256)
    assert challenger.metrics != champion.metrics
    assert photograph(toy.tracking, get_version(toy.tracking, f"{NAME}@champion")) == before
    assert find_problems(RunContext(toy.settings)) == []
    assert json.loads(toy.osteo("history", NAME, "--json"))["faults"] == []
    assert toy.osteo("verify", NAME) == "0 findings in 2 versions\n"
    assert REFUSED in toy.osteo("promote", NAME, code=3)
    toy.commit("another seed")
    assert "version 2 is now champion" in toy.osteo("promote", NAME)
    assert photograph(toy.tracking, get_version(toy.tracking, f"{NAME}/1")) == before
