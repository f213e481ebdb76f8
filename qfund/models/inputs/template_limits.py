"""What a chat template may take: seconds, memory, and powers. The sandbox keeps it from files, not from these."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2.sandbox import SandboxedEnvironment

_MEMORY = 1024**3  # bytes beyond what the process has
_BITS = 10_000  # of a power


class TooLong(BaseException):
    """Beyond what a template could catch."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise ``TooLong`` in Python code of this thread that runs for longer, ``MemoryError`` where memory grows by 1 GiB
    (``'x' * 10**10`` is one step of Python's, which no clock interrupts), ``OverflowError`` for a power of thousands
    of digits (which takes hours and little memory)."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def watch(*_: Any) -> Any:
        if time.monotonic() > end:
            raise TooLong
        return watch

    with _little_memory(), _small_powers():
        sys.settrace(watch)
        try:
            yield
        finally:
            sys.settrace(before)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Where Linux says how much address space the process has; elsewhere nothing is limited."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    import resource  # of Unix alone

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = pages * resource.getpagesize()
    most = min(limit for limit in (taken + _MEMORY, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _small_powers() -> Iterator[None]:
    """Templates that are compiled meanwhile have their powers taken by ``_power``. transformers makes the environment
    itself and lets nobody choose it, hence its class."""
    kind: Any = SandboxedEnvironment
    operators, table = kind.intercepted_binops, kind.default_binop_table
    kind.intercepted_binops, kind.default_binop_table = operators | {"**"}, {**table, "**": _power}
    try:
        yield
    finally:
        kind.intercepted_binops, kind.default_binop_table = operators, table


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _BITS:
        raise OverflowError("a power of too many digits")
    return base**exponent
