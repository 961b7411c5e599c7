"""Keeping freed memory in the process, between the steps of a fit.

glibc hands large blocks back to the kernel when they are freed and asks for them again at the next step; every page is
then cleared and mapped anew: some 2,000 page faults (`ru_minflt` of `getrusage`) in a unimodal step of 16 images, 4,900
in one of the traditional CNN, and next to none with these settings. The trade: a process that trains keeps its peak
memory until it ends.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Final

# malloc.h
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3

LARGEST_MMAP_THRESHOLD: Final = 32 << 20  # glibc refuses more
HEAP_BYTES: Final = 64 << 20  # one heap of a thread's arena: with this as padding, an empty heap is kept
NEVER: Final = 2**31 - 1


@functools.cache
def hold_freed_memory() -> bool:
    """Tell the C library to keep what is freed; done once for each process.

    Returns:
        Whether the C library could be told: with glibc only.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, HEAP_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
