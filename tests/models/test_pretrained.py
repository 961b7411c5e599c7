import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.models import build, build_unfilled, check_spec, find_entry
from osteo_models.models.head import Head
from osteo_models.models.pretrained import (
    BACKBONES,
    Backbone,
    PretrainedNetwork,
    describe_backbone,
    find_initial_weights,
    load_timm,
    make_backbone,
    read_initial_weights,
)

TINY = {"backbone": "test_efficientnet", "weights": "random"}  # timm's own for tests, of 160 x 160


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(4, 3, 80, 60, generator=draw(0))


@pytest.mark.parametrize(
    ("architecture", "size", "mean"),
    [
        ("efficientnet_b0", 224, 0.485),
        ("inception_v3", 299, 0.5),
        ("resnet50", 224, 0.485),
        ("inception_resnet_v2", 299, 0.5),
        ("efficientnetv2_s", 300, 0.5),
        ("convnext_tiny", 224, 0.485),
        ("efficientnet_lite0", 224, 0.5),
    ],
)
def test_each_has_its_own_size_and_normalisation_and_is_in_the_catalogue(
    architecture: str, size: int, mean: float
) -> None:
    about = describe_backbone(BACKBONES[architecture])
    assert (about.size, about.mean[0], about.hub_id) == ((size, size), mean, f"timm/{about.name}")
    entry = find_entry(architecture)
    assert entry.image_sets == ("mri", "ct", "combined")
    assert entry.spec == {"backbone": about.name, "weights": "imagenet", "transfer": "frozen"}


@torch.no_grad()
def test_grey_images_are_resized_once_and_give_the_same_to_the_bit(images: torch.Tensor) -> None:
    network = build("timm", seed=1, **TINY).eval()
    grey = images[:, :1].expand_as(images)
    copied = grey.contiguous(memory_format=torch.channels_last)  # every channel is resized
    assert torch.equal(network.features(grey), network.features(copied))
    assert not torch.equal(network.features(grey), network.features(images))


def test_lite0_knows_what_is_on_photographs() -> None:
    about = describe_backbone(BACKBONES["efficientnet_lite0"])
    classifier = make_backbone(about.name, classes=1000)
    _, file = find_initial_weights(find_entry("efficientnet_lite0").spec, None)
    assert file is not None
    raw = torch.load(file.path, weights_only=True)
    classifier.load_state_dict(dict(zip(classifier.state_dict(), raw.values(), strict=True)))
    network = PretrainedNetwork(classifier, about, Head(draw(0), 1000), frozen=True).eval()
    found = {}
    for name in ("china.jpg", "flower.jpg"):
        photograph = torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1)[None] / 255
        middle = photograph[..., 106:533]
        with torch.no_grad():
            logits = network.features(interpolate(middle, (256, 256), mode="bicubic", antialias=True).clamp(0, 1))
        found[name] = logits[0].topk(3).indices.tolist()
    assert found["china.jpg"][0] == 698  # palace
    assert 442 in found["china.jpg"]  # bell cote
    assert found["flower.jpg"][0] == 985  # daisy


def test_the_start_of_lite0_is_the_packages_file_to_the_bit() -> None:
    _, file = find_initial_weights(find_entry("efficientnet_lite0").spec, None)
    assert file is not None and file.sha256.startswith("57934424")  # as the file's own name has it
    raw = list(torch.load(file.path, weights_only=True).values())
    network = build("efficientnet_lite0")
    tensors = list(network.backbone.state_dict().values())
    assert len(raw) == 296 and len(tensors) == 294  # all but the classifier
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(tensors, raw, strict=False))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.eps for layer in layers} == {1e-3}


def test_images_are_resized_and_normalised_before_the_backbone() -> None:
    about = Backbone("none", "", (8, 6), (0.5, 0.25, 0.0), (0.5, 1.0, 2.0), "bicubic")
    network = PretrainedNetwork(nn.Flatten(2), about, Head(draw(0), 1), frozen=True)
    seen = network.features(torch.full((2, 3, 80, 60), 0.75))
    assert seen.shape == (2, 3, 48)
    expected = torch.tensor([0.5, 0.5, 0.375])
    torch.testing.assert_close(seen, expected.view(1, 3, 1).expand(2, 3, 48), atol=1e-5, rtol=0)
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1  # bicubic interpolation swings past 0 and 1 here
    values = network.features(edge)[0, 2] * 2
    assert values.min() >= 0 and values.max() <= 1


def test_a_frozen_backbone_keeps_weights_and_statistics_and_only_the_head_learns(images: torch.Tensor) -> None:
    network = build("tiny", seed=1, **TINY).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=0.1)
    binary_cross_entropy_with_logits(network(images), torch.tensor([0.0, 1, 0, 1])).backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.dense.weight", "head.dense.bias", "head.output.weight", "head.output.bias"}
    assert network.training and not network.backbone.training


def test_a_backbone_that_is_trained_whole_moves_weights_and_statistics(images: torch.Tensor) -> None:
    network = build("tiny", seed=1, transfer="full", **TINY).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    binary_cross_entropy_with_logits(network(images), torch.tensor([0.0, 1, 0, 1])).backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {"backbone.conv_stem.weight", "backbone.bn1.running_mean", "head.dense.weight"} <= moved


def test_the_head_computes_in_float32_whatever_surrounds_it() -> None:
    head, features = Head(draw(3), 40), torch.randn(8, 40, generator=draw(4))
    plain = head(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(features), plain)


def test_random_weights_are_the_seeds_and_leave_the_global_random_state() -> None:
    before = torch.get_rng_state()
    first, second, other = (build("tiny", seed=seed, **TINY).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["backbone.conv_stem.weight"], other["backbone.conv_stem.weight"])


def test_a_start_that_is_given_is_taken(images: torch.Tensor) -> None:
    about = describe_backbone(TINY["backbone"])
    start = read_initial_weights(about, None, seed=9)
    network = build("tiny", seed=1, start=start, backbone=TINY["backbone"])
    assert torch.equal(network.backbone.state_dict()["conv_stem.weight"], start["conv_stem.weight"])
    assert network(images).shape == (4,)


def test_a_network_to_be_filled_looks_for_no_weights() -> None:
    assert isinstance(build_unfilled("resnet18", {"backbone": "resnet18"}), PretrainedNetwork)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"backbone": "resnet81"}, "`backbone` is 'resnet81'; allowed: a name of timm, such as resnet"),
        ({"backbone": "resnet18.a7"}, r"`backbone` is 'resnet18.a7'; allowed: .*resnet18\.a1_in1k"),
        ({"backbone": 18}, "`backbone` is 18; allowed: a name of timm"),
        ({"backbone": "resnet18", "weights": "best"}, "resnet18: `weights` is 'best'; allowed: imagenet, random"),
        ({"backbone": "resnet18", "transfer": "half"}, "resnet18: `transfer` is 'half'; allowed: frozen, full"),
        ({"backbone": "resnet18", "dense": 3}, "mine: unknown spec key `dense`; allowed: backbone, weights, transfer"),
    ],
)
def test_a_wrong_spec_is_told_before_anything_is_built(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_spec("mine", spec)
    with pytest.raises(InputError, match=message):
        build("mine", **spec)


def test_a_network_that_timm_has_no_weights_of_needs_another_start() -> None:
    with pytest.raises(WeightsError, match="efficientnetv2_s.*timm knows no weights of it.*`weights: random`"):
        build("mine", backbone="efficientnetv2_s")


def run_python(code: str, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": f"{place}:."}, capture_output=True, text=True
    )
    return done.stdout + done.stderr.strip().rpartition("\n")[2]


def test_timm_works_beside_the_torchvision_that_is_installed() -> None:
    assert load_timm().is_model("resnet50")
    code = "from osteo_models.models import pretrained as p; t = p.load_timm(); t2 = p.load_timm(); print(t is t2)"
    assert run_python(code, Path()) == "True\n"


WITHOUT_OPERATORS = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    raise RuntimeError("operator torchvision::nms does not exist")
"""


@pytest.mark.parametrize(
    ("torchvision", "printed"),
    [
        ("", "0 timm\n"),  # loads by itself: nothing is declared
        (WITHOUT_OPERATORS, "1 timm\n"),
        ("raise RuntimeError('of another kind')\n", "RuntimeError: of another kind"),
    ],
    ids=["whole", "without its operators", "broken"],
)
def test_operators_are_declared_only_where_torchvision_fails_for_them(
    torchvision: str, printed: str, tmp_path: Path
) -> None:
    (tmp_path / "torchvision.py").write_text(torchvision)
    (tmp_path / "timm").mkdir()
    for name in ("__init__", "data"):
        (tmp_path / "timm" / f"{name}.py").touch()
    code = "from osteo_models.models import pretrained as p; t = p.load_timm(); print(len(p._declared), t.__name__)"
    assert run_python(code, tmp_path) == printed
