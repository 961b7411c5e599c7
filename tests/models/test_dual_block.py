from typing import Any

import pytest
import torch
from torch import Tensor, nn

from osteo_models.core.errors import InputError
from osteo_models.models import build


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mri, ct = torch.rand(2, 2, 3, 80, 60, generator=generator)
    return mri, ct


def layers(network: nn.Module) -> list[str]:
    kept = (nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear)
    return [name for name, module in network.named_modules() if isinstance(module, kept)]


def test_layers_stand_in_the_published_order_with_relu_before_batch_norm() -> None:
    assert layers(build("unimodal")) == [
        "features.block1.conv1", "features.block1.relu1", "features.block1.norm1", "features.block1.pool1",
        "features.block1.conv2", "features.block1.relu2", "features.block1.norm2", "features.block1.pool2",
        "features.block2.conv1", "features.block2.relu1", "features.block2.norm1",
        "features.block2.conv2", "features.block2.relu2", "features.block2.norm2",
        "features.merge", "features.relu",
        "classifier.dense1", "classifier.dense2", "classifier.output",
    ]  # fmt: skip


def test_shapes_of_the_blocks_and_features(images: tuple[Tensor, Tensor]) -> None:
    features: Any = build("unimodal").features
    assert features.block1(images[0]).shape == features.block2(images[0]).shape == (2, 32, 20, 15)
    assert features(images[0]).shape == (2, 19_200)


def test_the_memory_format_does_not_change_the_scores(images: tuple[Tensor, Tensor]) -> None:
    network = build("unimodal").eval()
    plain = network(images[0])
    layout: dict[str, Any] = {"memory_format": torch.channels_last}
    assert plain.shape == (2,)
    torch.testing.assert_close(network.to(**layout)(images[0].to(**layout)), plain, atol=1e-5, rtol=0)


def test_towers_of_loss_fusion_are_complete_and_share_nothing(images: tuple[Tensor, Tensor]) -> None:
    network: Any = build("multimodal").eval()
    mri, ct = network(*images)
    assert torch.equal(mri, network.tower("mri")(images[0]))
    assert torch.equal(ct, network.tower("ct")(images[1]))
    mri.sum().backward()
    assert all(each.grad is None for each in network.tower("ct").parameters())
    assert all(each.grad is not None for each in network.tower("mri").parameters())


def test_feature_fusion_gives_one_logit_that_both_images_move(images: tuple[Tensor, Tensor]) -> None:
    network = build("multimodal", fusion="feature").eval()
    mri, ct = network(*images)
    assert mri.shape == (2,) and torch.equal(mri, ct)
    for other in ((images[1], images[1]), (images[0], images[0])):
        assert not torch.allclose(network(*other)[0], mri)


def test_feature_fusion_cannot_score_one_modality() -> None:
    network: Any = build("multimodal", fusion="feature")
    with pytest.raises(InputError) as caught:
        network.tower("ct")
    assert str(caught.value) == (
        'multimodal with fusion="feature": `ct` images cannot be scored by themselves; allowed: one image each of '
        'MRI, CT: its classifier takes the features of all; for scores of one modality train with fusion="loss"'
    )


@pytest.mark.parametrize("fusion", ["loss", "feature"])
def test_an_unknown_modality_is_refused(fusion: str) -> None:
    network: Any = build("multimodal", fusion=fusion)
    with pytest.raises(InputError, match="unknown modality `pet`; allowed: mri, ct"):
        network.tower("pet")
