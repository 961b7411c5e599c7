"""What a run needs of the machine: disk, GPU, weights to start from."""

from __future__ import annotations

import platform
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.core.params import Params
from osteo_models.ops.doctor.problem import Check, Problem, Project

GIGABYTE: Final = 10**9
# Measured at paper scale: checkpoints and results 1 GB, runs and models 0.4 GB, artifacts 0.3 GB; Ray's store apart.
NEEDED_BYTES: Final = 2 * GIGABYTE
DRIVER: Final = Path("/proc/driver/nvidia/version")
SETUP: Final = "run `make setup` in a fresh .venv"


def check_disk(project: Project) -> Iterator[Problem]:
    """Free space where a run writes."""
    settings = project.settings
    free = dict[int, tuple[int, Path]]()
    for folder in (settings.root, settings.state, Path(tempfile.gettempdir())):
        place = next(each for each in (folder, *folder.parents) if each.exists())
        free.setdefault(place.stat().st_dev, (shutil.disk_usage(place).free, place))
    for left, place in free.values():
        if left < NEEDED_BYTES:
            found = f"{left / GIGABYTE:.1f} GB are free, and a run takes up to {NEEDED_BYTES / GIGABYTE:.0f}"
            yield Problem(
                f"disk of {place}", found, "make space; `osteo gc --dry-run` says what nothing needs any more"
            )


def check_gpu(project: Project) -> Iterator[Problem]:
    """A GPU, where params.yaml asks for one and the work is done on this machine."""
    if project.params is None or not project.params.experiments.resources.gpu or project.settings.ray_address:
        return
    import torch

    if torch.cuda.is_available():
        return
    if not DRIVER.exists():
        reason, remedy = "this machine has no NVIDIA driver", "install it"
    elif torch.version.cuda is None:
        reason, remedy = f"PyTorch {torch.__version__} is a build for CPUs", "install a build of PyTorch for CUDA"
    else:
        reason, remedy = f"PyTorch for CUDA {torch.version.cuda} sees none", "see that `nvidia-smi` lists it"
    found = f"params.yaml asks for {project.params.experiments.resources.gpu:g} GPU a trial, and {reason}"
    yield Problem("GPU", found, f"{remedy}, or set `experiments.resources.gpu: 0`")


def check_weights(project: Project) -> Iterator[Problem]:
    """The weights that the networks of the profile in force start from."""
    if project.params is None:
        return
    from osteo_models.training.pretrained_plan import find_pretrained

    if _are_at_hand(project.params, project.settings.weights_dir):
        return
    try:
        find_pretrained(project.params, project.settings.weights_dir)
    except WeightsError as error:
        yield Problem(error.where, error.found, error.remedy)


def _are_at_hand(params: Params, folder: Path | None) -> bool:
    """Whether all weights lie in the folder or in a package, checked without timm, whose import takes seconds."""
    from osteo_models.models import complete_spec
    from osteo_models.models.pretrained import BACKBONES, check_choice
    from osteo_models.models.pretrained_weights import find_weights

    try:
        for name in {name for stage in params.stages for name in params.list_run(stage)}:
            spec = complete_spec(name, params.architectures[name])
            if "transfer" not in spec:
                continue
            if spec["backbone"] not in BACKBONES.values():  # timm alone knows it, and the tag of its weights
                return False
            check_choice(**spec)
            if spec["weights"] != "random":
                find_weights(spec["backbone"], hub_id="", folder=folder)
    except WeightsError:
        return False
    return True


def check_python(project: Project) -> Iterator[Problem]:
    """The release of Python."""
    wanted = _read_project(project.settings.root).get("requires-python", "")
    if not SpecifierSet(wanted).contains(platform.python_version()):
        yield Problem("Python", f"{platform.python_version()}, and pyproject.toml asks for {wanted}", SETUP)


def check_packages(project: Project) -> Iterator[Problem]:
    """What pyproject.toml asks for: without it something will fail."""
    faults: list[str] = []
    for line in _read_project(project.settings.root).get("dependencies", []):
        wanted = Requirement(line)
        found = _find_version(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            faults.append(f"{wanted.name} {found or 'is missing'} ({wanted.specifier or 'any'})")
    if faults:
        yield Problem("packages", f"not what pyproject.toml asks for: {', '.join(faults)}", SETUP)


def check_lock(project: Project) -> Iterator[Problem]:
    """What requirements.lock pins: another release may give other numbers."""
    path = project.settings.root / "requirements.lock"
    if not path.is_file():
        return
    pins = [line.partition("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line]
    found = {name: _find_version(name) for name, _, _ in pins}
    # The local part of a version, such as torch's +cpu, is not in the lock.
    other = [(name, found[name], pin) for name, _, pin in pins if (found[name] or "").partition("+")[0] != pin]
    if other:
        name, here, pin = other[0]
        message = f"{len(other)} of {len(pins)} packages differ, the first: {name} {here or 'is missing'}, not {pin}"
        yield Problem("requirements.lock", message, SETUP)


def _read_project(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"cannot be read ({error})", where=str(path), remedy="fix it, or get it from git") from None


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


CHECKS: Final[tuple[Check, ...]] = (check_disk, check_gpu, check_weights, check_python, check_packages, check_lock)
