import ctypes
import sys

import pytest

from osteo_models.training import memory


@pytest.fixture
def _forgotten() -> None:
    memory.hold_freed_memory.cache_clear()


@pytest.mark.usefixtures("_forgotten")
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.hold_freed_memory() is False
    memory.hold_freed_memory.cache_clear()


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc only")
def test_glibc_takes_the_settings() -> None:
    assert memory.hold_freed_memory() is True
