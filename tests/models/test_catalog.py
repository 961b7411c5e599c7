import pytest
import torch
from torch import nn

from osteo_models.core.errors import InputError
from osteo_models.models import build, catalog, count_parameters, find_entry, list_architectures


def test_the_papers_own_architectures_are_listed() -> None:
    assert {"multimodal", "traditional_cnn", "unimodal"} <= set(list_architectures())
    assert list_architectures() == sorted(list_architectures())


@pytest.mark.parametrize(
    ("architecture", "image_sets"),
    [
        ("unimodal", ("mri", "ct", "combined")),
        ("traditional_cnn", ("mri", "ct", "combined")),
        ("multimodal", ("multimodal",)),
    ],
)
def test_an_entry_says_which_image_sets_it_takes(architecture: str, image_sets: tuple[str, ...]) -> None:
    assert find_entry(architecture).image_sets == image_sets


def test_a_name_taken_twice_is_refused_and_the_first_stays() -> None:
    before = find_entry("unimodal")
    with pytest.raises(ValueError, match="`unimodal` is registered twice"):
        catalog.register("unimodal", image_sets=("mri",), versions={})(lambda generator: nn.Identity())
    assert find_entry("unimodal") is before


def test_an_unknown_architecture_names_those_there_are() -> None:
    with pytest.raises(InputError) as caught:
        build("resnet")
    assert str(caught.value) == f"unknown architecture `resnet`; allowed: {', '.join(list_architectures())}"


@pytest.mark.parametrize(
    ("architecture", "spec", "message"),
    [
        (
            "traditional_cnn",
            {"depth": 2, "activation": "relu"},
            (
                "traditional_cnn: unknown spec key `activation`, `depth`; "
                "allowed: filters, kernels, strides, pools, pooling, padding, dense"
            ),
        ),
        (
            "unimodal",
            {"filters": 8},
            "unimodal: unknown spec key `filters`; allowed: no keys: this architecture is fixed",
        ),
        ("multimodal", {"fusion": "late"}, "multimodal: `fusion` is 'late'; allowed: loss, feature"),
    ],
)
def test_a_wrong_spec_says_what_is_allowed(architecture: str, spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(architecture, **spec)
    assert str(caught.value) == message


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match=r"unimodal: `seed` is -1; allowed: 0 or more"):
        build("unimodal", seed=-1)


@pytest.mark.parametrize("architecture", ["unimodal", "multimodal", "traditional_cnn"])
def test_weights_depend_on_the_seed_alone_and_leave_the_global_random_state(architecture: str) -> None:
    before = torch.get_rng_state()
    first, second, other = (build(architecture, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    kernels = [name for name in first if first[name].ndim > 1]
    assert kernels and not any(torch.equal(first[name], other[name]) for name in kernels)


@pytest.mark.parametrize(
    ("architecture", "spec", "counts"),
    [
        ("unimodal", {}, (704_961, 704_705)),
        ("multimodal", {}, (1_409_922, 1_409_410)),
        ("multimodal", {"fusion": "feature"}, (1_409_345, 1_408_833)),
        ("traditional_cnn", {}, (1_257_505, 1_257_505)),
    ],
)
def test_parameter_counts(architecture: str, spec: dict[str, str], counts: tuple[int, int]) -> None:
    assert count_parameters(build(architecture, **spec)) == counts


def test_frozen_weights_are_not_counted_as_trainable() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    network[0].requires_grad_(False)
    assert count_parameters(network) == (11, 3)
