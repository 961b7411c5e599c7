"""Hostile model files: each is refused with its reason, and nothing in them runs."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from osteo_models.errors import WeightsError
from osteo_models.models import build
from osteo_models.predict import predict_path
from osteo_models.registry.inspection import check_package, check_weights, hash_code
from osteo_models.registry.network import read_network
from osteo_models.registry.package import write_package
from osteo_models.registry.versions import load_network
from osteo_models.training.checkpoint import save_weights
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
    loaded = read_network(model_folder / "model.safetensors", model_folder / "model.json")
    target = tmp_path_factory.mktemp("package") / "model"
    write_package(target, model_folder, loaded.record, model_id="m-1", run_id="r-1")
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


HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "cloudpickle": (_pickled_model, "python_model.pkl is a pickle, which can run code when it is loaded"),
    "disguised pickle": (_disguised_pickle, "artifacts/notes.txt is a pickle, which can run code"),
    "nested archive": (_nested_archive, "artifacts/extra.dat is a zip archive"),
    "pt2": (_torch_file, "artifacts/model.pt2 is a zip archive, such as PyTorch's, which can run code"),
    "loader module": (_own_loader, "loader_module is 'loader', not 'mlflow.pyfunc.loaders.code_model'"),
    "standard loader": (_change(loader_module="mlflow.sklearn"), "loader_module is 'mlflow.sklearn', not"),
    "other code folder": (_change(code="../elsewhere"), "code is '../elsewhere', not 'code'"),
    "other model code": (_change(model_code_path="evil.py"), "model_code_path is 'evil.py', not model_code.py"),
    "model config": (_change(config={"a": 1}), "config in MLmodel, which a model of ours has not"),
    "artifact outside": (
        _change(artifacts={"weights": {"path": "../weights"}}),
        "artifacts outside its own folder: ../weights",
    ),
    "library changed": (_changed_library, "its code is not that which it was registered with"),
    "model code changed": (_changed_model_code, "its code is not that which it was registered with"),
    "module added": (_added_module, "its code is not that which it was registered with"),
    "compiled": (_compiled, "__init__.cpython-311.pyc is bytecode, which Python may run in the place of the code"),
    "second flavor": (_second_flavor, "flavors python_function, pytorch, not python_function alone"),
    "YAML object": (_yaml_object, "MLmodel cannot be used (ConstructorError)"),
    "link": (_link, "artifacts/other.json is a link"),
    "no description": (lambda folder, _: (folder / "MLmodel").unlink(), "MLmodel cannot be used (FileNotFoundError)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_package_is_refused_with_its_reason(package: Path, tmp_path: Path, canary: Path, name: str) -> None:
    folder = Path(shutil.copytree(package, tmp_path / "model"))
    code = hash_code(folder)
    check_package(folder, code)
    spoil, reason = HOSTILE[name]
    spoil(folder, canary)
    with pytest.raises(WeightsError) as caught:
        check_package(folder, code)
    assert reason in str(caught.value)
    remedy = "delete it (Python left it when" if name == "compiled" else "load none of it"
    assert remedy in str(caught.value)
    assert not canary.exists()


def test_all_reasons_are_told_at_once(package: Path, tmp_path: Path, canary: Path) -> None:
    folder = Path(shutil.copytree(package, tmp_path / "model"))
    for spoil in (_pickled_model, _nested_archive, _second_flavor):
        spoil(folder, canary)
    with pytest.raises(WeightsError) as caught:
        check_package(folder, "")
    for reason in ("python_model.pkl is a pickle", "extra.dat is a zip", "pytorch", "without a record of its code"):
        assert reason in str(caught.value)


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
        with pytest.raises(WeightsError) as caught:
            predict_path(tracking, tmp_path / "a.png", reference, "mri")
        assert str(caught.value).startswith(f"models:/{reference}: ") and reason in str(caught.value)
        shutil.rmtree(folder)
        shutil.copytree(sound, folder)
    record = folder / "artifacts" / "model.json"
    record.write_text(record.read_text(encoding="utf-8").replace("0.5", "0.1"), encoding="utf-8")
    with pytest.raises(WeightsError, match="the record is not the registered one; the file was changed"):
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
        predict_path(tracking, tmp_path / "a.png", "osteo-foreign/1", "mri")
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
        read_network(path, folder / "model.json")
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
        read_network(folder / "model.safetensors", folder / "model.json")


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_a_header_whose_length_looks_like_a_mark_is_no_pickle(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header(b"{}".ljust(length)))
    check_weights(path, 0)


def test_a_record_that_asks_for_too_many_networks_is_refused(make_model) -> None:
    folder = make_model(members=10**9)
    with pytest.raises(WeightsError, match="`members` is 1000000000, allowed are 1 to 100"):
        read_network(folder / "model.safetensors", folder / "model.json")
