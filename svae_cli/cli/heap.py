"""One heap for all threads, so that what compiling frees is used again instead of kept by each thread."""

import ctypes
import os
import sys

_M_ARENA_MAX = -8  # malloc.h of glibc


def share_heap() -> None:
    """Let glibc use one heap, unless the user has a say in it; other C libraries stay as they are.

    Compiling a training step takes hundreds of megabytes in several threads; with a heap each, more stays
    resident at most (docs/numbers.md). Must run before those threads start.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
