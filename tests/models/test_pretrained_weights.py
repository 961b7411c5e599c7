import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from osteo_models.core.errors import WeightsError
from osteo_models.models.pretrained_weights import WeightsFile, find_weights, read_weights

NAME = "tf_efficientnet_lite0.in1k"
TENSORS = {"conv.weight": torch.ones(2, 3), "bn.bias": torch.zeros(2), "classifier.bias": torch.zeros(9)}
SHAPES = {"conv.weight": (2, 3), "bn.bias": (2,), "bn.num_batches_tracked": ()}


def test_a_folder_comes_before_the_package_and_is_told_by_its_hash(tmp_path: Path) -> None:
    packaged = find_weights(NAME, hub_id="", folder=tmp_path)
    assert packaged.ordered and packaged.path.suffix == ".pth"
    path = tmp_path / f"{NAME}.safetensors"
    save_file(TENSORS, path)
    found = find_weights(NAME, hub_id="", folder=tmp_path)
    assert found == WeightsFile(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_only_what_is_expected_is_read_in_float32(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    tensors = {name: each.half() for name, each in TENSORS.items()}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    found = read_weights(find_weights("a", hub_id="", folder=tmp_path), SHAPES)
    assert list(found) == list(SHAPES) and found["conv.weight"].dtype == torch.float32
    assert torch.equal(found["conv.weight"], TENSORS["conv.weight"])


def test_tensors_of_a_packages_file_are_told_by_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"x": torch.ones(2, 3), "y": torch.zeros(2), "z": torch.tensor(7), "rest": torch.zeros(1)}, path)
    found = read_weights(WeightsFile(path, "", ordered=True), SHAPES)
    assert list(found) == list(SHAPES) and found["bn.num_batches_tracked"] == 7
    with pytest.raises(WeightsError, match=r"2 of 3 tensors do not fit, the first is `conv.weight`: of shape \(2, 3\)"):
        read_weights(WeightsFile(path, "", ordered=True), {**SHAPES, "conv.weight": (3, 2), "bn.bias": (1,)})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv.weight": torch.ones(2, 3)}, "1 of 3 tensors do not fit, the first is `bn.bias`: missing; allowed: `bn"),
        ({**TENSORS, "bn.bias": torch.zeros(3)}, r"`bn.bias`: of shape \(3,\); allowed: `bn.bias` of shape \(2,\)"),
    ],
)
def test_another_networks_weights_are_refused(tensors: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=message):
        read_weights(find_weights("a", hub_id="", folder=tmp_path), SHAPES)


class Trap:
    """What a pickle may do to whoever opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"conv.weight": Trap(tmp_path / "sprung")}, protocol=2))
    torch.save({"conv.weight": Trap(tmp_path / "sprung")}, tmp_path / "b.pth")
    for name in ("a", "b"):
        with pytest.raises(
            WeightsError, match=r"\.pth: holds more than tensors.*allowed: safetensors, or a state dict"
        ):
            read_weights(find_weights(name, hub_id="", folder=tmp_path), SHAPES)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04" + bytes(50)])
def test_a_damaged_file_says_so(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.(pth|safetensors): (cannot be read|holds more than tensors)"):
        read_weights(find_weights("a", hub_id="", folder=tmp_path), SHAPES)


def test_a_file_without_a_state_dict_and_a_folder_that_is_none_are_told(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds no state dict; allowed: names and tensors"):
        read_weights(find_weights("a", hub_id="", folder=tmp_path), SHAPES)
    with pytest.raises(WeightsError, match="OSTEO_WEIGHTS_DIR=.*none: no such folder; make it, or unset OSTEO_WEIGHTS"):
        find_weights("a", hub_id="", folder=tmp_path / "none")


CLOSED = """
from osteo_models.core.errors import WeightsError
from osteo_models.models.pretrained_weights import find_weights
for name in ("resnet50.a1_in1k", "convnext_tiny.fb_in1k"):
    try:
        find_weights(name, hub_id=f"timm/{name}", folder=None)
    except WeightsError as error:
        print(error)
"""


def test_a_closed_machine_is_told_the_three_ways_out(tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", CLOSED], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert done.stderr == ""
    assert first == (
        "resnet50.a1_in1k: the ImageNet weights cannot be had (not in the hub's cache, and the hub cannot be reached: "
        "[Errno 111] Connection refused); allowed: `resnet50.a1_in1k.safetensors` or .pth; three ways out: run once "
        "where the hub can be reached, and its cache keeps them; or put this file into a folder and set "
        "OSTEO_WEIGHTS_DIR to it; or ask for another start by name, with `weights: random`"
    )
    assert second.startswith("convnext_tiny.fb_in1k: ")


def test_the_hubs_cache_is_used_without_a_network(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--timm--resnet50.a1_in1k" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    save_file(TENSORS, snapshot / "model.safetensors")
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PYTHONPATH": "."}
    find = "find_weights('a', hub_id='timm/resnet50.a1_in1k', folder=None)"
    code = f"from osteo_models.models.pretrained_weights import find_weights; print({find}.path)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(snapshot / "model.safetensors")
