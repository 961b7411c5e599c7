from typing import Any

import numpy as np
import pytest
import torch
from small_fits import make_small_network

from osteo_models.core.errors import InputError
from osteo_models.models import build
from osteo_models.training.inference import as_batch, as_tensor, score_images, score_rows


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 80, 60)).astype(np.uint8)


def test_grey_becomes_three_views_of_one_channel(images: np.ndarray) -> None:
    batch = as_batch(as_tensor(images))
    assert batch.shape == (10, 3, 80, 60) and batch.stride(1) == 0
    expected = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    assert all(torch.equal(batch[:, channel], expected) for channel in range(3))


def test_a_writable_array_is_shared_and_a_read_only_one_copied(images: np.ndarray) -> None:
    assert np.shares_memory(as_tensor(images).numpy(), images)
    images.setflags(write=False)
    copied = as_tensor(images).numpy()
    assert not np.shares_memory(copied, images) and np.array_equal(copied, images)


def test_features_are_a_heads_input_as_they_are() -> None:
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert torch.equal(as_batch(as_tensor(features)), torch.from_numpy(features))


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 80, 60)), np.zeros((2, 60, 80), np.uint8), np.zeros((80, 60), np.uint8)]
)
def test_other_images_are_refused(wrong: Any) -> None:
    small_network = make_small_network()
    with pytest.raises(InputError) as caught:
        score_images(small_network, wrong)
    assert str(caught.value) == (
        f"images are {wrong.dtype} of shape {wrong.shape}; allowed: uint8 of shape (m, 80, 60)"
    )


def test_scores_are_the_sigmoid_of_the_logits_whatever_the_batch(images: np.ndarray) -> None:
    small_network = make_small_network()
    small_network.train()
    scores = score_images(small_network, images, precision="float32", batch_size=4)
    assert small_network.training
    with torch.no_grad():
        expected = torch.sigmoid(small_network.eval()(as_batch(as_tensor(images)))).numpy()
    assert scores.dtype == np.float32 and scores.shape == (10,)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(score_images(small_network, images, precision="float32"), expected, atol=1e-6)


def test_batch_norm_scores_with_its_averages_and_leaves_them(images: np.ndarray) -> None:
    network = build("unimodal")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    alone = score_images(network, images[:1], precision="float32")
    np.testing.assert_allclose(score_images(network, images, precision="float32")[:1], alone, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bfloat16_stays_near_float32(images: np.ndarray) -> None:
    network = build("unimodal")
    exact = score_images(network, images, precision="float32")
    coarse = score_images(network, images, precision="bfloat16")
    assert not np.array_equal(exact, coarse)
    np.testing.assert_allclose(coarse, exact, atol=0.02)


def test_no_images_give_no_scores(images: np.ndarray) -> None:
    small_network = make_small_network()
    assert score_images(small_network, images[:0]).shape == (0,)


def test_each_modality_is_scored_by_its_tower(images: np.ndarray) -> None:
    network: Any = build("multimodal")
    mri, ct = images[:4], images[4:8]
    pairs = score_rows(network, [as_tensor(mri), as_tensor(ct)], "float32", batch_size=3)
    assert pairs.shape == (4, 2)
    np.testing.assert_allclose(pairs[:, 0], score_images(network, mri, modality="mri", precision="float32"), atol=1e-6)
    np.testing.assert_allclose(pairs[:, 1], score_images(network, ct, modality="ct", precision="float32"), atol=1e-6)
    assert not np.allclose(pairs[:, 0], score_images(network, mri, modality="ct", precision="float32"))


def test_a_multimodal_network_needs_to_know_the_modality(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="no `modality` given for a multimodal network; allowed: mri, ct"):
        score_images(build("multimodal"), images)
    with pytest.raises(InputError, match="`mri` images cannot be scored by themselves"):
        score_images(build("multimodal", fusion="feature"), images, modality="mri")
