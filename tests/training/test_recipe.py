from typing import Any

import pytest
import torch

from osteo_models.core.errors import InputError
from osteo_models.training.recipe import ADAM_EPSILON, Recipe, resolve_precision


@pytest.fixture
def cpu_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the CPU claim these instruction sets."""

    def claim(*names: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))

    return claim


@pytest.fixture
def gpu_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend a GPU of this compute capability; what is decided about it needs none."""

    def claim(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return claim


def test_defaults_are_the_papers() -> None:
    assert Recipe() == Recipe(epochs=20, batch_size=16, learning_rate=1e-3, precision="auto")
    assert ADAM_EPSILON == 1e-7


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (("avx512_f", "avx512_bf16"), "bfloat16"),
        (("avx512_f", "amx_bf16"), "bfloat16"),
        (("avx2", "avx512_f"), "float32"),
        ((), "float32"),
    ],
)
def test_auto_on_a_cpu_goes_by_its_instructions(cpu_with: Any, claims: tuple[str, ...], expected: str) -> None:
    cpu_with(*claims)
    assert resolve_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16")])
def test_auto_on_a_gpu_goes_by_its_generation(gpu_of: Any, capability: tuple[int, int], expected: str) -> None:
    gpu_of(capability)
    assert resolve_precision("auto", "cuda:0") == expected


def test_what_is_asked_for_is_given_also_where_it_is_slow(cpu_with: Any) -> None:
    cpu_with()
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
    assert resolve_precision("float32", "cpu") == "float32"


def test_what_a_device_cannot_do_is_refused(gpu_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:
        resolve_precision("float16", "cpu")
    assert str(caught.value) == "recipe: `precision` is float16 on `cpu`; allowed: float16 on a CUDA GPU only"
    gpu_of((7, 5))
    with pytest.raises(InputError, match="`cuda` has no bfloat16; allowed: auto, float32, float16"):
        resolve_precision("bfloat16", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU for device `cuda:1`; allowed: cpu"):
        resolve_precision("auto", "cuda:1")
