"""The folder that MLflow keeps of a version: weights, record, the code that serves them, and what that code needs."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mlflow import pyfunc
from mlflow.models import Model

import osteo_models
from osteo_models.models import find_entry
from osteo_models.registry import serving
from osteo_models.registry.checksums import hash_files, write_manifest
from osteo_models.registry.golden import GOLDEN, make_golden
from osteo_models.registry.network import FEATURES, LIKENESS, RECORD, WEIGHTS, ModelRecord, read_network

# Stated, not inferred: MLflow's inference loads the model in a process of its own, for seconds, and guesses.
REQUIREMENTS: Final = (
    "huggingface-hub",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "pydicom",
    "pyyaml",
    "safetensors",
    "torch",
)
PRETRAINED_REQUIREMENTS: Final = ("timm",)
MODEL_CODE: Final = Path(serving.__file__).with_name("model_code.py")


def write_package(target: Path, model_folder: Path, record: ModelRecord, *, model_id: str, run_id: str) -> None:
    """Write the folder of a version.

    The library travels with it, so that a served version is scored by the code that it was registered with; and a
    manifest, so that MLflow loads it only as it was written.

    Args:
        target: Folder to make.
        model_folder: Holds `model.safetensors` and `model.json`, perhaps `likeness.safetensors` and
            `features.safetensors`.
        record: What `model.json` says.
        model_id: MLflow's logged model that the folder is for.
        run_id: The run that it is registered in.
    """
    paths = [model_folder / name for name in (WEIGHTS, RECORD, LIKENESS, FEATURES)]
    known = {path.name: str(path) for path in paths if path.is_file()}
    with tempfile.TemporaryDirectory() as place:
        pyfunc.save_model(
            path=str(target),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            python_model=str(MODEL_CODE),
            artifacts=known | _write_golden(Path(place), model_folder),
            code_paths=[str(Path(osteo_models.__file__).parent)],
            pip_requirements=list_requirements(record),
            signature=serving.make_signature(),
            input_example=serving.make_example(record),
        )
    write_manifest(target, hash_files(target))


def _write_golden(place: Path, model_folder: Path) -> dict[str, str]:
    loaded = read_network(model_folder / WEIGHTS, model_folder / RECORD)
    if loaded.record.takes_pairs:  # there is no case of one image
        return {}
    path = place / GOLDEN
    path.write_text(json.dumps(make_golden(loaded), indent=1) + "\n", encoding="utf-8")
    return {GOLDEN: str(path)}


def list_requirements(record: ModelRecord) -> list[str]:
    """The packages that serving needs, at the versions installed here; a build label such as `+cpu` is left off."""
    pretrained = "weights" in find_entry(record.architecture, record.spec).spec
    names = (*REQUIREMENTS, *(PRETRAINED_REQUIREMENTS if pretrained else ()))
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]
