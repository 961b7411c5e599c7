import ctypes
import subprocess
import sys

import pytest

from osteo_models.training import acceleration
from tests.conftest import ROOT

# The page faults of the same steps before and after.
CODE = """
import resource
import numpy as np
from osteo_models.training.acceleration import hold_freed_memory

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [np.ones(250_000) for _ in range(10)]  # of 2 MB each; all are freed before the next ten
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step()
print(step(), hold_freed_memory(), step(), step())
"""


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("the C library was called"))
    assert acceleration.hold_freed_memory.__wrapped__() is False


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    before, told, _, after = done.stdout.split()
    assert told == "True" and int(before) > 1000 and int(after) < 0.05 * int(before), done.stdout
