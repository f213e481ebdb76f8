"""How much of the machine a thread has, where several models run side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

_HERE = local()


def share() -> float:
    """1 where one model runs at a time. Seconds by a clock times this are those of the machine's time: of all threads
    together they add up to what the clock says."""
    found: float = getattr(_HERE, "share", 1.0)
    return found


@contextmanager
def one_of(count: int) -> Iterator[None]:
    """While the block runs, so many threads share the machine."""
    _HERE.share = 1 / count
    try:
        yield
    finally:
        _HERE.share = 1.0
