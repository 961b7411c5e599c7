"""What is looked at before anything of a model is loaded: only the files, by their bytes and names; no code runs.

A model of ours is weights (safetensors), a record (JSON) and our own library beside them. Whatever else could run when
somebody loads it, a pickle, an archive, another loader, other code, is refused with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from osteo_models.errors import WeightsError

DESCRIPTION: Final = "MLmodel"
FLAVOR: Final = "python_function"
LOADER: Final = "mlflow.pyfunc.loaders.code_model"
CODE: Final = "code"
MODEL_CODE: Final = "model_code.py"
KEYS: Final = {
    *("artifacts", "cloudpickle_version", "code", "env", "loader_module", "model_code_path", "python_version"),
    "streamable",
}
BYTECODE: Final = ".pyc"
BYTECODE_NOTE: Final = "Python left it when an earlier release's version was loaded, or somebody put it there"
UNRECORDED: Final = "registered without a record of its code, as an earlier release did"
AGAIN: Final = "register it again with `dvc repro -f register`, which adds what is missing"
LENGTH_BYTES: Final = 8  # of the count that a safetensors file begins with
MOST_HEADER_BYTES: Final = 10_000_000
SPARE_BYTES: Final = 4_000_000  # for the header, beside the tensors
REMEDY: Final = "load none of it; register the model anew from its own training"
# Formats that can run code when they are loaded, by how their files begin. Pickle's protocols 2 to 5 begin so.
DANGEROUS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "a pickle": (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    "a zip archive, such as PyTorch's": (b"PK\x03\x04", b"PK\x05\x06"),
    "a compressed file": (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    "a program": (b"\x7fELF", b"MZ"),
}
SUFFIXES: Final = (
    *(".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pt", ".pt2", ".pth", ".ckpt", ".bin"),
    *(".pyd", ".so", ".egg", ".whl", ".zip"),
)
SUFFIXES_OF_CODE: Final = (".py", ".sh")


def check_weights(path: Path, tensors: int) -> None:
    """See that a file can be the safetensors file of a network, before it is read whole.

    Args:
        path: The file.
        tensors: Bytes of the network's tensors.

    Raises:
        WeightsError: It is another format, its header is impossible, or it is larger than the network.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES)
            header = int.from_bytes(start, "little")
            opening = file.read(1)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror})", where=str(path)) from None
    allowed = "a safetensors file as it was registered"
    if kind := _find_danger(start):
        raise WeightsError(f"{kind}, no safetensors file", where=str(path), allowed=allowed, remedy=REMEDY)
    if size > tensors + SPARE_BYTES:
        found = f"{size:,} bytes for a network of {tensors:,}"
        raise WeightsError(found, where=str(path), allowed=allowed, remedy=REMEDY)
    if header > min(size - LENGTH_BYTES, MOST_HEADER_BYTES) or opening != b"{":
        found = f"the file is damaged: a header of {header:,} bytes in a file of {size:,}"
        raise WeightsError(found, where=str(path), allowed=allowed, remedy="take it from a backup")


def check_package(folder: Path, code: str) -> None:
    """See that the files of a version are those of a model of ours.

    Args:
        folder: With `MLmodel` and all that belongs to it.
        code: `hash_code` of its folder at registration.

    Raises:
        WeightsError: With every reason.
    """
    faults = [*_find_files(folder), *_find_description(folder)]
    compiled = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(f"*{BYTECODE}"))]
    if not code:
        faults.append(UNRECORDED)
    elif not faults and not compiled and hash_code(folder) != code:
        faults.append("its code is not that which it was registered with")
    remedy = AGAIN if faults == [UNRECORDED] else REMEDY
    if compiled and not faults:
        remedy = f"delete it ({BYTECODE_NOTE}); `osteo verify` names every such file"
    if compiled:
        more = f" and {len(compiled) - 1} more are" if len(compiled) > 1 else " is"
        faults.append(f"{compiled[0]}{more} bytecode, which Python may run in the place of the code")
    if faults:
        raise WeightsError(
            "; ".join(faults), where=str(folder), allowed="weights, record and code of osteo_models", remedy=remedy
        )


def hash_code(folder: Path) -> str:
    """SHA-256 over the names and contents of a version's code: all below `code`, and every program file elsewhere."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(f"{CODE}/") or path.suffix in SUFFIXES_OF_CODE:
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _find_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name} is a link"
        elif path.is_file():
            with path.open("rb") as file:
                kind = _find_danger(file.read(LENGTH_BYTES))
            if kind or path.suffix.lower() in SUFFIXES:
                yield f"{name} is {kind or f'a {path.suffix} file'}, which can run code when it is loaded"


def _find_danger(start: bytes) -> str | None:
    # A safetensors file begins with the length of its header, which may look like a pickle's mark, then zeros.
    if not any(start[3:]):
        return None
    return next((kind for kind, marks in DANGEROUS.items() if start.startswith(marks)), None)


def _find_description(folder: Path) -> Iterator[str]:
    """What is wrong with MLmodel, which tells MLflow what to import."""
    try:
        content: Any = yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8"))
        flavors: dict[str, Any] = content["flavors"]
        flavor: dict[str, Any] = flavors[FLAVOR]
        paths = {str(item["path"]) for item in flavor["artifacts"].values()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        yield f"{DESCRIPTION} cannot be used ({type(error).__name__})"
        return
    if set(flavors) != {FLAVOR}:
        yield f"flavors {', '.join(sorted(map(str, flavors)))}, not {FLAVOR} alone"
    wanted = {"loader_module": LOADER, "code": CODE}
    for key, value in wanted.items():
        if flavor.get(key) != value:
            yield f"{key} is {flavor.get(key)!r}, not {value!r}"
    model_code = str(flavor.get("model_code_path")).replace("\\", "/").rpartition("/")[2]
    if model_code != MODEL_CODE:
        yield f"model_code_path is {flavor.get('model_code_path')!r}, not {MODEL_CODE}"
    if unknown := sorted(set(flavor) - KEYS):
        yield f"{', '.join(unknown)} in {DESCRIPTION}, which a model of ours has not"
    outside = sorted(path for path in paths if not path.startswith("artifacts/") or ".." in path)
    if outside:
        yield f"artifacts outside its own folder: {', '.join(outside)}"
