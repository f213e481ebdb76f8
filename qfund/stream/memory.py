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
#: As a worker has them (``engine.worker.settle``), and glibc by itself.
_USUAL = {_MMAP_THRESHOLD: 16 * _MIB, _TRIM_THRESHOLD: 128 * 1024}
#: Bytes of a part from which on it is large, and of what was freed from which on it is worth a look at all heaps.
_LARGE, _LITTLE = 32 * _MIB, 8 * _MIB


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


def give_back(size: int) -> None:
    """Let the system have what was freed, ``size`` bytes. glibc keeps it, scattered over the heaps of its threads: half
    a gigabyte after a few large blocks."""
    if size > _LITTLE:
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)
