"""Writing of a model package: weights, record, golden cases, the code that scores and no more, and the manifest."""

from __future__ import annotations

import ast
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlflow import pyfunc
from mlflow.models import Model

import osteo_models
from osteo_models.models import find_entry
from osteo_models.registry import pyfunc_model
from osteo_models.registry.manifest import hash_files, write_manifest
from osteo_models.serving.model_record import RECORD, WEIGHTS, ModelRecord
from osteo_models.serving.network import OOD, LoadedNetwork
from osteo_models.serving.score_table import GOLDEN, make_golden

LIBRARY: Final = Path(osteo_models.__file__).parent
# What `model_code.py` imports: the check of the package, then the model.
ENTRY_POINTS: Final = ("registry/manifest.py", "registry/pyfunc_model.py")
# Stated, not inferred: MLflow's inference loads the model in a process of its own, for seconds, and guesses.
REQUIREMENTS: Final = (
    *("huggingface-hub", "mlflow", "numpy", "pandas", "pillow", "pydantic", "pydicom", "pyyaml", "safetensors"),
    "torch",
)
PRETRAINED_REQUIREMENTS: Final = ("timm",)
MODEL_CODE: Final = Path(pyfunc_model.__file__).with_name("model_code.py")


def write_package(
    target: Path,
    model_folder: Path,
    network: LoadedNetwork,
    *,
    model_id: str,
    run_id: str,
    contents: Mapping[str, Path | bytes] = MappingProxyType({}),
) -> str:
    """Write the package of a version, and return the SHA-256 of its manifest.

    It carries the code that scores, so that a served version is scored by the code that it was registered with, and a
    manifest, so that MLflow loads it only as it was written.

    Args:
        target: Folder to make.
        model_folder: Holds `model.safetensors`, `model.json` and perhaps `ood.safetensors`.
        network: The network in it.
        model_id: MLflow's logged model that the package is for.
        run_id: Run of the registration.
        contents: Further files, or their content, by their path in the package.
    """
    record = network.record
    artifacts = {name: str(model_folder / name) for name in (WEIGHTS, RECORD, OOD) if (model_folder / name).is_file()}
    with tempfile.TemporaryDirectory() as scratch:
        if not record.takes_pairs:  # else there is no case of one image
            golden = Path(scratch) / GOLDEN
            golden.write_text(json.dumps(make_golden(network), indent=1) + "\n", encoding="utf-8")
            artifacts[GOLDEN] = str(golden)
        pyfunc.save_model(
            path=str(target),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            python_model=str(MODEL_CODE),
            artifacts=artifacts,
            code_paths=[str(copy_code(Path(scratch) / "code"))],
            pip_requirements=_list_requirements(record),
            signature=pyfunc_model.make_signature(),
            input_example=pyfunc_model.make_example(record),
        )
    for name, content in contents.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return write_manifest(target, hash_files(target))


def _list_requirements(record: ModelRecord) -> list[str]:
    """The packages that serving needs, at the versions installed here; a build label such as `+cpu` is left off."""
    pretrained = "weights" in find_entry(record.architecture, record.spec).spec
    names = (*REQUIREMENTS, *(PRETRAINED_REQUIREMENTS if pretrained else ()))
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


@functools.cache
def list_code() -> tuple[Path, ...]:
    """The modules that a package needs, relative to the library's folder, with the `__init__.py` of their folders."""
    found, waiting = set[Path](), [Path(name) for name in ENTRY_POINTS]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [folder / "__init__.py" for folder in module.parents]
            waiting += _list_imports(LIBRARY / module)
    return tuple(sorted(found))


def copy_code(target: Path) -> Path:
    """Copy these modules into a folder; returns the copy of the library."""
    for module in list_code():
        copy = target / LIBRARY.name / module
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LIBRARY / module, copy)
    return target / LIBRARY.name


def _list_imports(path: Path) -> Iterator[Path]:
    """The library's modules that a module imports, anywhere in it except for type checkers."""
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = Path(*name.split("."))
            for file in (parts.with_suffix(".py"), parts / "__init__.py"):
                if file.is_relative_to(LIBRARY.name) and (LIBRARY.parent / file).is_file():
                    yield file.relative_to(LIBRARY.name)
