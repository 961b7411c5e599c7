"""Python and the packages: those that the project was made for?"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from osteo_models.doctor.ailment import Ailment, Check, Project
from osteo_models.errors import InputError

SETUP: Final = "run `make setup` in a fresh .venv"


def check_python(project: Project) -> Iterator[Ailment]:
    """The release of Python."""
    wanted = _read_project(project.settings.root).get("requires-python", "")
    if not SpecifierSet(wanted).contains(platform.python_version()):
        yield Ailment("Python", f"{platform.python_version()}, and pyproject.toml asks for {wanted}", SETUP)


def check_packages(project: Project) -> Iterator[Ailment]:
    """What pyproject.toml asks for: without it something will fail."""
    faults: list[str] = []
    for line in _read_project(project.settings.root).get("dependencies", []):
        wanted = Requirement(line)
        found = _find_version(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            faults.append(f"{wanted.name} {found or 'is missing'} ({wanted.specifier or 'any'})")
    if faults:
        yield Ailment("packages", f"not what pyproject.toml asks for: {', '.join(faults)}", SETUP)


def check_lock(project: Project) -> Iterator[Ailment]:
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
        told = f"{len(other)} of {len(pins)} packages differ, the first: {name} {here or 'is missing'}, not {pin}"
        yield Ailment("requirements.lock", told, SETUP)


def _read_project(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"cannot be read ({error})", where=str(path), remedy="mend it, or get it from git") from None


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


CHECKS: Final[tuple[Check, ...]] = (check_python, check_packages, check_lock)
