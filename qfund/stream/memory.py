"""What is freed goes back to the system, where that is worth its time. glibc alone knows these settings."""

import contextlib
import ctypes
from collections.abc import Iterator

_MIB = 1024**2
#: malloc.h: bytes of one piece that has pages of its own, and of what is free at the end of the heap that stay there.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
#: While large parts come and go: hidden states and temporaries of a few megabytes would leave holes of their sizes in
#: the heap (a fifth of the peak of a walk with blocks of 176 MB), but those that stay in a core's cache are used again.
_TIGHT = {_MMAP_THRESHOLD: 4 * _MIB, _TRIM_THRESHOLD: 2 * _MIB}
#: As a worker has them (``engine.worker.settle``); of glibc nobody can learn what they were.
_USUAL = {_MMAP_THRESHOLD: 16 * _MIB, _TRIM_THRESHOLD: 16 * _MIB}
#: Bytes of a part from which on it is large.
_LARGE = 32 * _MIB


@contextlib.contextmanager
def tight(largest: int) -> Iterator[None]:
    """While the block runs, where its largest part has so many bytes, keep little of what is freed."""
    if largest < _LARGE:
        yield
        return
    _set(_TIGHT)
    try:
        yield
    finally:
        _set(_USUAL)


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)
