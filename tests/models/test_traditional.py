from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from osteo_models.core.errors import InputError
from osteo_models.models import build, count_parameters
from osteo_models.models.traditional import count_cost, plan_convolutions


def test_the_default_is_the_papers_network() -> None:
    network: Any = build("traditional_cnn")
    shapes = [tuple(each.shape) for name, each in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(64, 3, 3, 3), (32, 64, 3, 3), (128, 9_600), (64, 128), (1, 64)]
    assert network(torch.zeros(2, 3, 80, 60)).shape == (2,)


def test_pooling_before_relu_equals_the_published_order() -> None:
    features: Any = build("traditional_cnn").features
    images = torch.rand(2, 3, 80, 60, generator=torch.Generator().manual_seed(0))
    published = nn.Sequential(
        features.conv1, nn.ReLU(), nn.MaxPool2d(2), features.conv2, nn.ReLU(), nn.MaxPool2d(2), features.flatten
    )
    weight = features.conv1.weight
    ours, theirs = features(images), published(images)
    assert torch.equal(ours, theirs)
    mask = torch.rand(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((each * mask).sum(), weight)[0] for each in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


def test_layers_can_be_set_one_by_one() -> None:
    network: Any = build(
        "traditional_cnn",
        filters=[8, 16, 4],
        kernels=[5, 3, 1],
        strides=[2, 1, 1],
        pools=[1, 2, 3],
        padding="valid",
        dense=[],
    )
    assert [name for name, _ in network.features.named_children()] == [
        "conv1", "relu1", "conv2", "pool2", "relu2", "conv3", "pool3", "relu3", "flatten"
    ]  # fmt: skip
    assert network.classifier.output.in_features == 6 * 4 * 4
    assert network(torch.zeros(1, 3, 80, 60)).shape == (1,)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_plan_is_what_the_built_network_computes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    spec: dict[str, Any] = {"filters": each(1, 3), "kernels": each(1, 7), "strides": each(1, 3), "pools": each(1, 3)}
    same = data.draw(st.booleans())
    try:
        plans = plan_convolutions(**spec, same=same)
    except InputError:
        return
    spec |= {"padding": "same" if same else "valid", "pooling": data.draw(st.sampled_from(["max", "average"]))}
    network: Any = build("traditional_cnn", **spec, dense=[2])
    last = plans[-1]
    assert network.features[:-1](torch.zeros(1, 3, 80, 60)).shape == (1, last.filters, last.rows, last.columns)
    assert network(torch.zeros(1, 3, 80, 60)).shape == (1,)


def test_average_pooling_follows_relu() -> None:
    features: Any = build("traditional_cnn", pooling="average").features
    images = torch.rand(2, 3, 80, 60, generator=torch.Generator().manual_seed(0))
    conv = features.conv1(images)
    assert torch.equal(features[:3](images), nn.functional.avg_pool2d(conv.relu(), 2))
    assert [name for name, _ in features.named_children()][:3] == ["conv1", "relu1", "pool1"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"filters": [8, 4], "kernels": [5, 3], "strides": [2, 1], "pools": [1, 3], "dense": []},
        {"filters": [4], "kernels": 7, "padding": "valid", "pooling": "average", "dense": [10, 9, 8]},
    ],
)
def test_the_cost_of_a_spec_is_that_of_the_network(spec: dict[str, Any]) -> None:
    network = build("traditional_cnn", **spec)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 80, 60))
    cost = count_cost(**spec)
    assert 2 * cost.macs == counter.get_total_flops()  # a multiplication and an addition each
    assert (cost.parameters, cost.parameters) == count_parameters(network)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"filters": []}, "traditional_cnn: `filters` is empty; allowed: at least one convolution"),
        ({"filters": [8, 0]}, "traditional_cnn: `filters` holds 0; allowed: positive integers"),
        ({"dense": ["64"]}, "traditional_cnn: `dense` holds '64'; allowed: positive integers"),
        ({"dense": [True]}, "traditional_cnn: `dense` holds True; allowed: positive integers"),
        ({"kernels": 2.5}, "traditional_cnn: `kernels` holds 2.5; allowed: positive integers"),
        (
            {"strides": [1, 1, 1]},
            "traditional_cnn: `strides` has 3 values for 2 convolutions; allowed: one number, or 2",
        ),
        ({"padding": "full"}, "traditional_cnn: `padding` is 'full'; allowed: same, valid"),
        ({"pooling": "mean"}, "traditional_cnn: `pooling` is 'mean'; allowed: max, average"),
        (
            {"kernels": 61, "padding": "valid"},
            "traditional_cnn, convolution 1: kernel 61 is larger than its 80 x 60 input",
        ),
        (
            {"filters": [8, 8, 8], "pools": 4},
            "traditional_cnn, convolution 3: pool 4 is larger than the 5 x 3 map it is given",
        ),
        (
            {"kernels": [3, 5], "pools": [14, 1], "padding": "valid"},
            "traditional_cnn, convolution 2: kernel 5 is larger than its 5 x 4 input",
        ),
    ],
)
def test_impossible_networks_are_refused_before_they_are_built(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build("traditional_cnn", **spec)
    assert str(caught.value) == message
