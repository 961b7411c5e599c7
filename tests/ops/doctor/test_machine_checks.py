"""Every check of `osteo doctor`: a healthy case, which it says nothing of, and a sick one, with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import yaml

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.params import parse_params
from osteo_models.ops.doctor import Problem, Project, all_checks, fix_problems, machine_checks
from osteo_models.registry.run_context import RunContext
from tests.conftest import ROOT
from tests.ops.doctor.conftest import ask


def test_python(project) -> None:
    assert ask(machine_checks.check_python, project) == []
    path = project.settings.root / "pyproject.toml"
    path.write_text(path.read_text().replace('requires-python = ">=3.11', 'requires-python = ">=3.99'))
    (found,) = ask(machine_checks.check_python, project)
    assert "and pyproject.toml asks for >=3.99,<3.13; run `make setup`" in str(found)


def test_packages(project) -> None:
    (project.settings.root / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2"]\n')
    assert ask(machine_checks.check_packages, project) == []
    given = '[project]\ndependencies = ["numpy<1", "click", "no-such-package-here"]\n'
    (project.settings.root / "pyproject.toml").write_text(given)
    (found,) = ask(machine_checks.check_packages, project)
    assert found.found.startswith("not what pyproject.toml asks for: numpy 2")
    assert "no-such-package-here is missing (any)" in found.found and "click" not in found.found


def test_lock(project) -> None:
    path = project.settings.root / "requirements.lock"
    own = f"numpy=={version('numpy')}\ntorch=={version('torch').partition('+')[0]}\n"
    path.write_text(own)
    assert ask(machine_checks.check_lock, project) == []
    path.write_text(f"{own}click==0.1\n")
    (found,) = ask(machine_checks.check_lock, project)
    assert found.found == f"1 of 3 packages differ, the first: click {version('click')}, not 0.1"
    path.unlink()
    assert ask(machine_checks.check_lock, project) == []


def test_disk(project, monkeypatch) -> None:
    monkeypatch.setattr(machine_checks, "NEEDED_BYTES", 1)
    assert ask(machine_checks.check_disk, project) == []
    monkeypatch.setattr(machine_checks, "NEEDED_BYTES", 10**18)
    (found, *_) = ask(machine_checks.check_disk, project)
    assert "GB are free, and a run takes up to 1000000000; make space" in str(found)


def test_gpu(project, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ask(machine_checks.check_gpu, project) == []  # none is asked for
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["experiments"]["resources"]["gpu"] = 0.5
    asking = replace(project, params=parse_params(raw))
    monkeypatch.setattr(machine_checks, "DRIVER", Path("/nowhere"))
    (found,) = ask(machine_checks.check_gpu, asking)
    assert str(found).startswith("GPU: params.yaml asks for 0.5 GPU a trial, and this machine has no NVIDIA driver;")
    monkeypatch.setattr(machine_checks, "DRIVER", Path("/"))
    (found,) = ask(machine_checks.check_gpu, asking)
    assert "set `experiments.resources.gpu: 0`" in found.remedy and "PyTorch" in found.found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert ask(machine_checks.check_gpu, asking) == []


def test_weights(project, monkeypatch) -> None:
    assert ask(machine_checks.check_weights, project) == []  # those of the quick profile come with a package
    missing = replace(project, settings=replace(project.settings, weights_dir=Path("/nowhere")))
    (found,) = ask(machine_checks.check_weights, missing)
    assert "OSTEO_WEIGHTS_DIR" in str(found) and "/nowhere" in str(found)


def test_weights_at_hand_are_told_without_what_takes_seconds_to_import(project, monkeypatch) -> None:
    from osteo_models.training import pretrained_plan

    def refuse(*_):
        raise AssertionError("timm is asked")

    monkeypatch.setattr(pretrained_plan, "find_pretrained", refuse)
    assert ask(machine_checks.check_weights, project) == []
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["architectures"]["efficientnet_lite0"]["weights"] = "none"
    with pytest.raises(InputError, match="`weights` is 'none'"):
        ask(machine_checks.check_weights, replace(project, params=parse_params(raw)))


def test_a_damaged_project_file(project) -> None:
    path = project.settings.root / "pyproject.toml"
    path.write_text("[project", encoding="utf-8")
    with pytest.raises(InputError, match=f"{path}: cannot be read"):
        ask(machine_checks.check_python, project)


def check_broken_things(_: Project) -> Iterator[Problem]:
    yield Problem("here", "one", "fix it")
    raise FileNotFoundError(2, "No such file or directory", "gone.log")


def check_process(_: Project) -> Iterator[Problem]:
    raise psutil.AccessDenied(7)
    yield


def check_lines(_: Project) -> Iterator[Problem]:
    yield Problem("here", str(int("x")), "")


def check_store(_: Project) -> Iterator[Problem]:
    raise StoreError("no", where="store", allowed="yes", remedy="do it")
    yield


def test_a_check_that_cannot_look_is_a_finding(project, monkeypatch) -> None:
    monkeypatch.setattr(
        all_checks, "CHECKS", (check_broken_things, check_process, check_lines, check_store, check_store)
    )
    monkeypatch.setattr(RunContext, "tracking", None)
    said = [str(each) for each in all_checks.find_problems(RunContext(project.settings))]
    again = "run `osteo doctor` again; should it stay, look there by hand"
    assert said == [
        "here: one; fix it",
        f"broken things: could not look ([Errno 2] No such file or directory: 'gone.log'); {again}",
        f"process: could not look ((pid=7)); {again}",
        f"lines: could not look (invalid literal for int() with base 10: 'x'); {again}",
        "store: no (yes); do it",  # once, though two checks met it
    ]

    def refuse(_: RunContext):
        raise PermissionError(13, "no")

    monkeypatch.setattr(RunContext, "tracking", property(refuse))
    assert "store: could not look ([Errno 13] no)" in str(all_checks.find_problems(RunContext(project.settings))[0])


def test_what_cannot_be_fixed_is_left() -> None:
    def refuse(error: Exception):
        raise error

    errors = (psutil.AccessDenied(7), FileNotFoundError("gone"), StoreError("busy"))
    broken = [Problem("here", "one", "fix it", lambda error=error: refuse(error)) for error in errors]
    by_hand, fixable = Problem("there", "two", "by hand"), Problem("it", "three", "", lambda: "removed")
    done, left = fix_problems([*broken, by_hand, fixable])
    assert done == ["it: removed"]
    assert [each.found for each in left] == [
        "one; it could not be fixed ((pid=7))",
        "one; it could not be fixed (gone)",
        "one; it could not be fixed (busy)",
        "two",
    ]
