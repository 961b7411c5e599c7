"""Maps whose values are known, and what must not change them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from osteo_models.core.errors import InputError
from osteo_models.explain.maps import explain_images, find_target_layer, pick_device
from osteo_models.models import build
from tests.conftest import ROOT
from tests.explain.toys import Linear, OneConvolution

IMAGES = np.random.default_rng(3).integers(0, 256, (3, 80, 60), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained():
    """A network with the statistics of images in its batch norm, as training leaves them."""
    network = build("unimodal", seed=2).train()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.5
        for _ in range(6):
            network(torch.rand(8, 3, 80, 60, generator=generator))
    return network


def by_hand(image: np.ndarray, filters: tuple[float, float], dense: tuple[float, float], sign: int) -> np.ndarray:
    """Grad-CAM++ of `OneConvolution`: weights of a map from its gradient and its sum, equations 10 and 19 there."""
    grey, pixels = image / 255.0, image.size
    heat = np.zeros(image.shape)
    for size, weight in zip(filters, dense, strict=True):
        active = np.maximum(size * grey, 0)
        gradient = np.full(image.shape, sign * weight / pixels)  # of the mean
        alpha = gradient**2 / (2 * gradient**2 + active.sum() * gradient**3 + 1e-7)
        heat += (alpha * np.maximum(gradient, 0)).sum() * active
    return np.maximum(heat, 0)


@pytest.mark.parametrize(("decision", "sign"), [(1, 1), (0, -1)])
def test_gradcampp_of_a_linear_toy_is_what_the_paper_of_the_method_says(decision, sign):
    filters, dense = (1.0, 0.4), (3000.0, -5000.0)
    network = OneConvolution(filters, dense)
    maps = explain_images(network, IMAGES, [decision] * 3, seed=0, samples=1)["gradcampp"]
    wanted = np.stack([by_hand(image, filters, dense, sign) for image in IMAGES])
    assert maps.shape == (3, 80, 60) and wanted.max() > 0
    np.testing.assert_allclose(maps, wanted, rtol=1e-4)


def test_smoothgrad_of_a_linear_network_equals_its_weights():
    weights = torch.randn(80, 60, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.Identity(), Linear(weights))
    maps = explain_images(network, IMAGES, [1, 0, 1], seed=5, samples=20)["smoothgrad"]
    assert maps.shape == (3, 80, 60)
    np.testing.assert_allclose(maps, np.broadcast_to(weights.abs(), maps.shape), rtol=1e-5)


def test_smoothgrad_averages_over_a_bend():
    """Of relu(x - x0) the gradient is 0 or 1; around the bend the noise meets both."""

    class Bend(nn.Module):
        def forward(self, images):
            return torch.relu(images.mean(dim=1) - 0.5).flatten(1).sum(dim=1)

    image = np.full((1, 80, 60), 127, np.uint8)
    image[0, 0, :2] = 0, 255  # the range, and so the size of the noise
    network = nn.Sequential(nn.Identity(), Bend())
    heat = explain_images(network, image, [1], seed=0, samples=16)["smoothgrad"][0]
    assert heat[0, 0] < 0.1 and heat[0, 1] > 0.9
    assert heat[1:].mean() == pytest.approx(0.5, abs=0.03)
    assert set(np.unique(heat * 16).round(3)) <= set(range(17))


def test_a_map_depends_on_its_image_and_the_seed_alone(trained):
    network = trained
    state = torch.random.get_rng_state()
    first = explain_images(network, IMAGES, [1, 0, 1], seed=7, samples=4)
    again = explain_images(network, IMAGES, [1, 0, 1], seed=7, samples=4)
    alone = explain_images(network, IMAGES[1:2], [0], seed=7, samples=4)
    other = explain_images(network, IMAGES, [1, 0, 1], seed=8, samples=4)
    for method in first:
        assert np.array_equal(first[method], again[method])
        np.testing.assert_allclose(alone[method][0], first[method][1], rtol=1e-3, atol=1e-4 * first[method][1].max())
        assert first[method].min() >= 0 and np.isfinite(first[method]).all()
    assert not np.allclose(first["smoothgrad"], other["smoothgrad"])
    assert np.array_equal(first["gradcampp"], other["gradcampp"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_is_left_as_it_was():
    network = build("unimodal", seed=1).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    explain_images(network, IMAGES, [1, 1, 1], seed=0, samples=2)
    assert network.training and all(each.requires_grad for each in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (build("unimodal"), "features.relu"),
        (build("traditional_cnn"), "features.relu2"),
        (build("multimodal").tower("ct"), "features.relu"),
        (OneConvolution((1.0, 1.0), (1.0, 1.0)), "relu"),
    ],
)
def test_the_layer_is_the_last_with_a_map(network, layer):
    assert find_target_layer(network, torch.rand(2, 1, 80, 60)) == layer


def test_a_layer_that_runs_twice_is_passed_over():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.again = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)

        def forward(self, images):
            return self.again(self.again(self.conv(images))).flatten(1).sum(dim=1)

    assert find_target_layer(Twice(), torch.rand(1, 1, 80, 60)) == "conv"


def test_what_cannot_be_explained_is_told():
    with pytest.raises(InputError, match="Linear: no layer with a map larger than 1 x 1; allowed: a CNN"):
        explain_images(Linear(torch.ones(80, 60)), IMAGES, [1, 1, 1], seed=0, samples=1)

    class Frozen(OneConvolution):
        def forward(self, images):
            with torch.no_grad():
                return super().forward(images)

    with pytest.raises(InputError, match="Frozen: no gradient reaches the image; allowed: a network that computes"):
        explain_images(Frozen((1.0, 1.0), (1.0, 1.0)), IMAGES, [1, 1, 1], seed=0, samples=1)
    with pytest.raises(InputError, match=r"images are uint8 of shape \(3, 8, 6\)"):
        explain_images(build("unimodal"), IMAGES[:, :8, :6], [1, 1, 1], seed=0)


def test_the_device_is_one_that_is_here():
    assert pick_device("cpu") == "cpu"
    assert pick_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("tpu", "cuda:x", "meta") + (() if torch.cuda.is_available() else ("cuda",)):
        with pytest.raises(InputError, match=f"no device '{wrong}'; allowed: auto, cpu, or cuda where PyTorch sees"):
            pick_device(wrong)


def test_importing_warns_of_nothing_and_reaches_no_network():
    code = (
        "import socket, warnings; warnings.simplefilter('error')\n"
        "def refuse(*a, **k): raise SystemExit('reached for the network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from osteo_models.core.settings import prepare_environment; prepare_environment()\n"
        "import osteo_models.explain.maps\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
