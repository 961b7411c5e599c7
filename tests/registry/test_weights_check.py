"""Hostile model files: each is refused with its reason, and nothing in them runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from osteo_models.core.errors import StaleDataError, WeightsError
from osteo_models.models import build
from osteo_models.registry.manifest import MANIFEST, find_damage
from osteo_models.registry.package import load_network, load_version
from osteo_models.registry.registration import write_package
from osteo_models.serving.network import read_network
from osteo_models.serving.predict import predict_path
from osteo_models.training.checkpoint import check_weights, save_weights
from tests.registry.conftest import PREPARE


class Payload:
    """Unpickled, it makes a file: the sign that code ran."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Must not exist when a test is over."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()  # the payload does work
    path.unlink()
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_weights(folder / "model.safetensors", build("unimodal", seed=1), {})
    record = {"architecture": "unimodal", "spec": {}, "images": "mri", "key": "0" * 16, "recipe": {}}
    record |= {"prepare": PREPARE, "threshold": 0.5}
    (folder / "model.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, model_folder) -> Path:
    loaded = read_network(model_folder)
    target = tmp_path_factory.mktemp("package") / "model"
    write_package(target, model_folder, loaded, model_id="m-1", run_id="r-1")
    return target


def _change(**values: object) -> Callable[[Path, Path], None]:
    """Rewrite MLmodel's flavor; None takes a key out."""

    def apply(folder: Path, _canary: Path) -> None:
        content = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        flavor = content["flavors"]["python_function"]
        flavor |= values
        content["flavors"]["python_function"] = {key: value for key, value in flavor.items() if value is not None}
        (folder / "MLmodel").write_text(yaml.safe_dump(content), encoding="utf-8")

    return apply


def _pickled_model(folder: Path, canary: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Payload(canary)))
    _change(python_model="python_model.pkl", model_code_path=None, loader_module="mlflow.pyfunc.model")(folder, canary)


def _disguised_pickle(folder: Path, canary: Path) -> None:
    (folder / "artifacts" / "notes.txt").write_bytes(pickle.dumps(Payload(canary)))


def _nested_archive(folder: Path, canary: Path) -> None:
    with zipfile.ZipFile(folder / "artifacts" / "extra.dat", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))


def _torch_file(folder: Path, canary: Path) -> None:
    torch.save({"payload": Payload(canary)}, folder / "artifacts" / "model.pt2")


def _own_loader(folder: Path, canary: Path) -> None:
    (folder / "code" / "loader.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    _change(loader_module="loader")(folder, canary)


def _changed_library(folder: Path, canary: Path) -> None:
    path = folder / "code" / "osteo_models" / "__init__.py"
    path.write_text(path.read_text(encoding="utf-8") + f"open({str(canary)!r}, 'w')\n", encoding="utf-8")


def _changed_model_code(folder: Path, canary: Path) -> None:
    (folder / "model_code.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")


def _added_module(folder: Path, canary: Path) -> None:
    (folder / "code" / "torch.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")


def _compiled(folder: Path, _canary: Path) -> None:
    place = folder / "code" / "osteo_models" / "__pycache__"
    place.mkdir()
    (place / "__init__.cpython-311.pyc").write_bytes(b"compiled")


def _second_flavor(folder: Path, canary: Path) -> None:
    content = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    content["flavors"]["pytorch"] = {"model_data": "data", "pytorch_version": "2.13.0"}
    (folder / "MLmodel").write_text(yaml.safe_dump(content), encoding="utf-8")


def _yaml_object(folder: Path, canary: Path) -> None:
    text = f"flavors: !!python/object/apply:os.mknod ['{canary}']\n"
    (folder / "MLmodel").write_text(text, encoding="utf-8")


def _link(folder: Path, _canary: Path) -> None:
    (folder / "artifacts" / "other.json").symlink_to("/etc/hostname")


def _link_folder(folder: Path, canary: Path) -> None:
    elsewhere = canary.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "__init__.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    (folder / "code" / "sklearn").symlink_to(elsewhere, target_is_directory=True)


def _link_same(folder: Path, canary: Path) -> None:
    (folder / "model_code.py").rename(canary.with_name("elsewhere.py"))
    (folder / "model_code.py").symlink_to(canary.with_name("elsewhere.py"))


def _empty_manifest(folder: Path, _canary: Path) -> None:
    (folder / MANIFEST).write_text('{"sha256": {}}', encoding="utf-8")


HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "cloudpickle": (_pickled_model, "python_model.pkl is not in the manifest"),
    "disguised pickle": (_disguised_pickle, "artifacts/notes.txt is not in the manifest"),
    "nested archive": (_nested_archive, "artifacts/extra.dat is not in the manifest"),
    "pt2": (_torch_file, "artifacts/model.pt2 is not in the manifest"),
    "loader module": (_own_loader, "MLmodel is changed, code/loader.py is not in the manifest"),
    "standard loader": (_change(loader_module="mlflow.sklearn"), "MLmodel is changed"),
    "other code folder": (_change(code="../elsewhere"), "MLmodel is changed"),
    "other model code": (_change(model_code_path="evil.py"), "MLmodel is changed"),
    "model config": (_change(config={"a": 1}), "MLmodel is changed"),
    "artifact outside": (
        _change(artifacts={"weights": {"path": "../weights"}}),
        "MLmodel is changed",
    ),
    "library changed": (_changed_library, "code/osteo_models/__init__.py is changed"),
    "model code changed": (_changed_model_code, "model_code.py is changed"),
    "module added": (_added_module, "code/torch.py is not in the manifest"),
    "compiled": (_compiled, "code/osteo_models/__pycache__/__init__.cpython-311.pyc is not in the manifest"),
    "second flavor": (_second_flavor, "MLmodel is changed"),
    "YAML object": (_yaml_object, "MLmodel is changed"),
    "link": (_link, "artifacts/other.json is not in the manifest"),
    "link to a folder": (_link_folder, "code/sklearn is not in the manifest"),
    "link to the same": (_link_same, "model_code.py is no regular file"),
    "nothing but rubbish": (_empty_manifest, "manifest.json is not the one that was registered"),
    "no description": (lambda folder, _: (folder / "MLmodel").unlink(), "MLmodel is missing"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_package_is_refused_with_the_file_named(
    package: Path, tmp_path: Path, canary: Path, name: str
) -> None:
    folder = Path(shutil.copytree(package, tmp_path / "model"))
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert find_damage(folder, digest) == []
    spoil, reason = HOSTILE[name]
    spoil(folder, canary)
    assert reason in ", ".join(map(str, find_damage(folder, digest)))
    assert not canary.exists()


LOAD = """
import mlflow.pyfunc, sys
try:
    mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
except Exception as error:
    print(f"refused: {error}")
"""


@pytest.mark.parametrize(
    ("name", "file"), [("library changed", "pyfunc_model.py"), ("disguised pickle", "artifacts/notes.txt")]
)
def test_outside_the_project_mlflow_runs_no_library_that_was_changed(
    package: Path, tmp_path: Path, canary: Path, name: str, file: str
) -> None:
    folder = Path(shutil.copytree(package, tmp_path / "model"))
    if name == "library changed":
        code = folder / "code" / "osteo_models" / "registry" / file
        code.write_text(code.read_text(encoding="utf-8") + f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    else:
        HOSTILE[name][0](folder, canary)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "refused: " in done.stdout and file in done.stdout and "manifest.json" in done.stdout
    assert not canary.exists()


def test_a_registered_version_that_was_spoilt_is_refused_by_every_command(
    tracking, register, stage, tmp_path: Path, canary: Path
) -> None:
    version = register(stage(1), seed=41)
    folder = Path(tracking.client.get_logged_model(version.model_id).artifact_location.removeprefix("file://"))
    load_network(tracking, version)
    sound = Path(shutil.copytree(folder, tmp_path / "sound"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("cloudpickle", "loader module", "library changed", "pt2"):
        spoil, reason = HOSTILE[name]
        spoil(folder, canary)
        reference = f"{version.name}/{version.version}"
        with pytest.raises(StaleDataError) as caught:
            predict_path(load_version(tracking, reference), tmp_path / "a.png", "mri")
        assert str(caught.value).startswith(f"models:/{reference}: ") and reason in str(caught.value)
        shutil.rmtree(folder)
        shutil.copytree(sound, folder)
    record = folder / "artifacts" / "model.json"
    record.write_text(record.read_text(encoding="utf-8").replace("0.5", "0.1"), encoding="utf-8")
    with pytest.raises(StaleDataError, match="artifacts/model.json is changed; restore the file"):
        load_network(tracking, version)
    assert not canary.exists()


def test_a_version_that_something_else_registered_is_refused(tracking, tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Payload(canary)))
    flavor = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "python_version": "3.11"}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}), encoding="utf-8")
    tracking.client.create_registered_model("osteo-foreign")
    tracking.client.create_model_version("osteo-foreign", folder.as_uri())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(WeightsError, match="models:/osteo-foreign/1: not registered by this project, so nothing of it"):
        predict_path(load_version(tracking, "osteo-foreign/1"), tmp_path / "a.png", "mri")
    with pytest.raises(MlflowException, match="pickle is disallowed"):  # what `open_tracking` switches off
        mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    assert not canary.exists()


def _header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


def _broken_weights(fault: str, sound: bytes, canary: Path, path: Path) -> bytes:
    if fault == "torch":
        torch.save({"payload": Payload(canary)}, path)
        return path.read_bytes()
    if fault in ("shape", "type", "name", "nan"):
        tensors = load_file(path)
        name = next(key for key, value in tensors.items() if value.ndim == 4)
        tensors[name] = {
            "shape": tensors[name][..., :1].contiguous(),
            "type": tensors[name].to(torch.float64),
            "name": tensors[name],
            "nan": torch.full_like(tensors[name], torch.nan),
        }[fault]
        if fault == "name":
            tensors["other"] = tensors.pop(name)
        save_file(tensors, path)
        return path.read_bytes()
    overlap = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    overlap["b"] = {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}
    huge = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    return {
        "pickle": pickle.dumps(Payload(canary)),
        "truncated": sound[:-100],
        "short": sound[:5],
        "empty": b"",
        "oversized header": (2**40).to_bytes(8, "little") + sound[8:],
        "header beyond": len(sound).to_bytes(8, "little") + sound[8:],
        "no JSON": _header(b"{" * 64),
        "no object": _header(b"[1, 2]"),
        "overlap": _header(json.dumps(overlap).encode()) + bytes(24),
        "huge tensor": _header(json.dumps(huge).encode()) + bytes(24),
        "bloated": sound + bytes(8_000_000),
        "bit": sound[:-1] + bytes([sound[-1] ^ 1]),
    }[fault]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("pickle", "a pickle, no safetensors file"),
        ("torch", "a zip archive, such as PyTorch's, no safetensors file"),
        ("truncated", "the file is damaged"),
        ("short", "the file is damaged"),
        ("empty", "the file is damaged: a header of 0 bytes in a file of 0"),
        ("oversized header", "the file is damaged: a header of 1,099,511,627,776 bytes in a file of"),
        ("header beyond", "the file is damaged: a header of"),
        ("no JSON", "the file is damaged"),
        ("no object", "the file is damaged"),
        ("overlap", "the file is damaged"),
        ("huge tensor", "the file is damaged"),
        ("bloated", "bytes for a network of"),
        ("bit", "the file is damaged: its checksum differs"),
        ("shape", "damaged"),
        ("type", "damaged"),
        ("name", "damaged"),
        ("nan", "damaged"),
    ],
)
def test_broken_weights_are_refused(make_model, tmp_path: Path, canary: Path, fault: str, reason: str) -> None:
    folder = make_model(seed=7)
    path = folder / "model.safetensors"
    path.write_bytes(_broken_weights(fault, path.read_bytes(), canary, path))
    with pytest.raises(WeightsError) as caught:
        read_network(folder)
    assert reason in str(caught.value) and str(path) in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("fault", "reason"), [("shape", "1 tensors do not fit"), ("nan", "weights that are not finite")]
)
def test_whole_files_of_other_networks_are_refused(make_model, fault: str, reason: str) -> None:
    folder = make_model(seed=7)
    network = build("unimodal", seed=7)
    if fault == "shape":
        network.classifier.output.weight = torch.nn.Parameter(torch.zeros(2, 16))
    else:
        network.classifier.output.weight.data.fill_(torch.inf)
    save_weights(folder / "model.safetensors", network, {})
    with pytest.raises(WeightsError, match=reason):
        read_network(folder)


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_a_header_whose_length_looks_like_a_mark_is_no_pickle(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header(b"{}".ljust(length)))
    check_weights(path, 0)


def test_a_record_that_asks_for_too_many_networks_is_refused(make_model) -> None:
    folder = make_model(members=10**9)
    with pytest.raises(WeightsError, match="`members` is 1000000000, allowed are 1 to 100"):
        read_network(folder)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 1e999, -0.1, 1.1])
def test_a_threshold_that_is_no_probability_is_refused(make_model, threshold: float) -> None:
    with pytest.raises(WeightsError, match=r"model\.json: (threshold |cannot be read \(the number)"):
        folder = make_model(threshold=threshold)
        read_network(folder)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_record_with_a_number_that_is_not_finite_is_refused(make_model, number: str) -> None:
    folder = make_model()
    path = folder / "model.json"
    path.write_text(path.read_text(encoding="utf-8").replace("99.5", number), encoding="utf-8")
    with pytest.raises(WeightsError, match=f"cannot be read \\(the number {number} is not finite"):
        read_network(folder)
