"""The versions of the code that computes results, and hashes of that code as it was when a version was declared.

Finished jobs are reused while the versions that they depend on stay the same (`osteo_models/training/identity.py`).
So a change of this code needs a decision, which `test_code_versions.py` asks for:

    python -m tests.contracts.code_versions record   # results stay the same: keep the versions, record the code
    python -m tests.contracts.code_versions raise    # results change: raise the versions, record the code

Comments, docstrings, formatting and log calls are not part of the hashes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.conftest import ROOT

PACKAGE: Final = "osteo_models"
TABLE: Final = "tests/contracts/code_versions.json"
LOGGERS: Final = {"_log", "log", "logger", "logging"}
DECLARATION: Final = re.compile(r"^VERSION: Final = (\d+)", re.MULTILINE)
SCORING: Final = ("training/inference.py", "training/recipe.py")

# By component: the files that compute, the first of which declares its VERSION. `file:Name` is a part of a file.
COMPONENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "layers": ("models/keras_layers.py",),
    "dual_block": ("models/dual_block.py",),
    "traditional": ("models/traditional.py",),
    "pretrained": ("models/pretrained.py", "models/pretrained_weights.py"),
    "head": ("models/head.py",),
    "training": (
        "training/fit.py",
        "training/checkpoint.py",
        "training/epoch_metrics.py",
        "training/fold.py",
        "training/trial.py",
        "training/jobs.py:Job.fold_seed",
        "models/catalog.py:build",
        "models/catalog.py:count_parameters",
        "core/terms.py:CONTROL",
        "core/terms.py:OSTEOPOROSIS",
        *SCORING,
    ),
    "features": (
        "training/frozen_features.py",
        "training/backbone_cache.py:_extract_chunk",
        "training/pretrained_plan.py:load_pretrained",
        *SCORING,
    ),
    "search": ("search/study.py", "search/space.py", "training/trial.py", "training/epoch_metrics.py:balance_patients"),
}


def read_components(root: Path) -> dict[str, Any]:
    """The version of each component, and the hash of each of its sources."""
    return {
        name: {
            "version": read_version(root / PACKAGE / sources[0]),
            "sources": {source: hash_source(root / PACKAGE, source) for source in sources},
        }
        for name, sources in COMPONENTS.items()
    }


def read_version(path: Path) -> int:
    """The version that a file declares."""
    found = DECLARATION.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path}: no line `VERSION: Final = 1`")
    return int(found[1])


def hash_source(package: Path, source: str) -> str:
    """The hash of what a file, or a part of it, computes."""
    path, _, part = source.partition(":")
    node: ast.AST = ast.parse((package / path).read_text(encoding="utf-8"))
    for name in part.split(".") if part else ():
        node = next((each for each in ast.iter_child_nodes(node) if name in _names(each)), ast.Pass())
        if isinstance(node, ast.Pass):
            raise ValueError(f"{path}: it has no `{part}`")
    return hashlib.sha256(json.dumps(_describe(node)).encode()).hexdigest()[:16]


def _names(node: ast.AST) -> list[str]:
    """The names that a statement defines."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(node, "name", ""), *(getattr(target, "id", "") for target in targets)]


def _describe(node: object) -> Any:
    """A syntax tree as JSON has it, the same under every release of Python."""
    if isinstance(node, list):
        return [_describe(each) for each in node if not _is_silent(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return [type(node).__name__, *([name, _describe(value)] for name, value in fields if name != "ctx")]


def _is_silent(node: object) -> bool:
    """Whether a statement computes nothing: a docstring, a log call, the declaration of the version."""
    if isinstance(node, ast.AnnAssign):
        return _names(node) == ["", "VERSION"]
    if not isinstance(node, ast.Expr):
        return False
    call = node.value.func if isinstance(node.value, ast.Call) else None
    logs = isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id in LOGGERS
    return logs or (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))


def list_faults(root: Path) -> Iterator[str]:
    """What differs from the table, and what to do; nothing where it is up to date."""
    table, here = json.loads((root / TABLE).read_text(encoding="utf-8")), read_components(root)
    for name, found in here.items():
        recorded = table.get(name, {"version": None, "sources": {}})
        changed = [source for source, digest in found["sources"].items() if recorded["sources"].get(source) != digest]
        command = "`python -m tests.contracts.code_versions"
        if found == recorded:
            continue
        if found["version"] == recorded["version"]:
            yield (
                f"{', '.join(changed or ['a source'])} changed, and the version of `{name}` in {COMPONENTS[name][0]} "
                f"is still {found['version']}. Do results stay the same, to the last bit? Then run {command} record`. "
                f"Do they change? Then run {command} raise {name}`: finished jobs that use it are trained again."
            )
        else:
            was = recorded["version"]
            yield f"the version of `{name}` is {found['version']}, recorded is {was}: run {command} record`"
    for name in sorted(table.keys() - here.keys()):
        yield f"there is no `{name}` any more: run {command} record`"


def raise_versions(root: Path, names: list[str]) -> None:
    """Raise the versions of components, of all whose code changed where none is named."""
    table, here = json.loads((root / TABLE).read_text(encoding="utf-8")), read_components(root)
    for name in names or [name for name in here if here[name]["sources"] != table.get(name, {}).get("sources")]:
        path = root / PACKAGE / COMPONENTS[name][0]
        text = path.read_text(encoding="utf-8")
        path.write_text(DECLARATION.sub(f"VERSION: Final = {read_version(path) + 1}", text), encoding="utf-8")


def record(root: Path) -> None:
    """Write the table."""
    (root / TABLE).write_text(json.dumps(read_components(root), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["raise", *names]:
            raise_versions(ROOT, names)
        case ["record"]:
            pass
        case _:
            sys.exit(__doc__)
    record(ROOT)
