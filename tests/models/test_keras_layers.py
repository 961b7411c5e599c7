import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from osteo_models.models.keras_layers import (
    FlattenChannelsLast,
    SameConv2d,
    make_batch_norm,
    make_conv,
    make_dense,
    make_logit_layer,
    same_padding,
)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (80, 5, 2, (1, 2)),
        (60, 5, 2, (1, 2)),
        (15, 5, 2, (2, 2)),
        (80, 3, 1, (1, 1)),
        (20, 5, 1, (2, 2)),
        (9, 2, 3, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


@given(st.integers(1, 90), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_leaves_one_position_per_stride_and_puts_an_odd_zero_after(
    size: int, kernel: int, stride: int
) -> None:
    before, after = same_padding(size, kernel, stride)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == math.ceil(size / stride)


def test_a_strided_convolution_by_hand() -> None:
    # Ones under a 5x5 kernel count the pixels of the 4x4 image that the kernel covers: with one row of zeros before and
    # two after, the first window sees rows 0-3, the second rows 1-3.
    conv = SameConv2d(1, 1, 5, stride=2, bias=False)
    nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 4, 4)).tolist() == [[[[16.0, 12.0], [12.0, 9.0]]]]


def test_a_convolution_without_stride_by_hand() -> None:
    conv = SameConv2d(1, 1, 3, bias=False)
    nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 2, 3)).tolist() == [[[[4.0, 6.0, 4.0], [4.0, 6.0, 4.0]]]]


def test_valid_convolutions_do_not_pad() -> None:
    assert make_conv(torch.Generator(), 3, 4, 5, stride=2, same=False)(torch.zeros(1, 3, 80, 60)).shape == (
        1,
        4,
        38,
        28,
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_equal_channels_are_convolved_as_one_with_the_same_result_and_gradients(
    rows: int, columns: int, kernel: int, stride: int, same: bool
) -> None:
    kernel = kernel if same else min(kernel, rows, columns)
    conv = make_conv(torch.Generator().manual_seed(0), 3, 4, kernel, stride=stride, same=same).double()
    grey = torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    outputs, gradients = [], []
    for images in (grey.expand(-1, 3, -1, -1), grey.repeat(1, 3, 1, 1)):
        outputs.append(conv(images))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), list(conv.parameters())))
    torch.testing.assert_close(*outputs, atol=1e-12, rtol=0)
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)
    assert torch.equal(gradients[0][0], gradients[0][0][:, :1].expand_as(conv.weight))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_the_maps_of_a_grey_image_are_channels_last(kernel: int, stride: int) -> None:
    # In the other layout the backward pass of a first convolution takes twice as long on a CPU.
    images = torch.rand(2, 80, 60).unsqueeze(1).expand(-1, 3, -1, -1)
    maps = make_conv(torch.Generator(), 3, 4, kernel, stride=stride)(images)
    assert maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def test_flatten_goes_by_rows_then_columns_then_channels() -> None:
    maps = torch.arange(12).reshape(1, 2, 2, 3)  # channel 0 holds 0-5, channel 1 holds 6-11
    expected = [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    assert FlattenChannelsLast()(maps).tolist() == expected
    assert FlattenChannelsLast()(maps.to(memory_format=torch.channels_last)).tolist() == expected


def test_kernels_are_glorot_uniform_and_biases_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    for layer, limit in (
        (make_conv(generator, 32, 64, 5), math.sqrt(6 / (32 * 25 + 64 * 25))),
        (make_dense(generator, 300, 100), math.sqrt(6 / 400)),
    ):
        largest = layer.weight.abs().max().item()
        assert 0.99 * limit < largest <= limit
        assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert layer.bias is not None and not layer.bias.any()


def test_batch_norm_moves_its_averages_by_a_hundredth() -> None:
    norm = make_batch_norm(1)
    values = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    out = norm(values)
    assert out.flatten().tolist() == pytest.approx([-1 / math.sqrt(1.001), 1 / math.sqrt(1.001)], abs=1e-6)
    assert norm.running_mean is not None and norm.running_mean.item() == pytest.approx(0.02)


def test_logits_are_float32_under_autocast() -> None:
    layer = make_logit_layer(torch.Generator().manual_seed(0), 16)
    features = torch.linspace(-1, 1, 32).reshape(2, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(features)
    assert logits.dtype == torch.float32 and logits.shape == (2,)
    assert torch.equal(logits, layer(features.float()))
