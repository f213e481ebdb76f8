"""What is freed goes back to the system while large parts of a model come and go."""

from collections.abc import Iterator
from contextlib import contextmanager

from qfund.core.machine import give_back_from

_MIB = 1024**2
#: Bytes of a part from which on it is large.
_LARGE = 32 * _MIB


@contextmanager
def tight(largest: int) -> Iterator[None]:
    """While the block runs, where its largest part has so many bytes, keep little of what is freed; then as a worker
    does (``engine.worker.settle``).

    Hidden states and temporaries of a few megabytes would leave holes of their sizes in the heap (a fifth of the peak
    of a walk with blocks of 176 MB), but those that stay in a core's cache are used again.
    """
    if largest < _LARGE:
        yield
        return
    give_back_from(4 * _MIB, 2 * _MIB)
    try:
        yield
    finally:
        give_back_from(16 * _MIB, 16 * _MIB)
