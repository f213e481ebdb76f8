"""What the environment says about jobs: how many, for how long, in how much memory."""

import os
from dataclasses import dataclass

from qfund.core.errors import UsageError
from qfund.core.machine import memory_limit
from qfund.core.machine import public as public

QUEUE = 24  # jobs that may wait
#: Jobs of one visitor that may wait or run at once: where strangers share the server, and elsewhere.
PLACES_IN_PUBLIC, PLACES = 3, 9
QUICK_PLACES = 3  # times as many of the quick ones: a page may ask for several
TIME_LIMIT = 1800.0  # seconds
QUICK_TIME_LIMIT = 120.0
#: Of the machine's memory, for the worker that measures; and of that, for the one that only looks.
WORKER_SHARE, QUICK_SHARE = 0.8, 0.25
KEEP_DAYS = 30.0  # for what strangers gave


@dataclass(frozen=True, slots=True)
class Settings:
    """``memory`` in bytes, ``time_limit`` in seconds."""

    capacity: int = QUEUE
    places: int = PLACES
    time_limit: float = TIME_LIMIT
    memory: int = 0


def read() -> Settings:
    """``QFUND_QUEUE``, ``QFUND_PLACES``, ``QFUND_TIME_LIMIT`` and ``QFUND_WORKER_GIB``.

    Raises:
        UsageError: one that is no number above 0.
    """
    gib = _number("QFUND_WORKER_GIB", 0.0)
    return Settings(
        number("QFUND_QUEUE", QUEUE),
        number("QFUND_PLACES", PLACES_IN_PUBLIC if public() else PLACES),
        _number("QFUND_TIME_LIMIT", TIME_LIMIT),
        int(gib * 1024**3) if gib else int(memory_limit() * WORKER_SHARE),
    )


def keep_days() -> float | None:
    """Days that results of what strangers gave are kept: ``QFUND_KEEP_DAYS``, for ever where there are no strangers.

    Raises:
        UsageError: it is no number above 0.
    """
    return _number("QFUND_KEEP_DAYS", KEEP_DAYS if public() else 0.0) or None


def store_bytes() -> int | None:
    """Bytes that results may take: ``QFUND_STORE_GIB``; None for any.

    Raises:
        UsageError: it is no number above 0.
    """
    return int(_number("QFUND_STORE_GIB", 0.0) * 1024**3) or None


def number(name: str, default: int) -> int:
    """A whole number above 0.

    Raises:
        UsageError: it is something else.
    """
    return int(_number(name, default, whole=True))


def _number(name: str, default: float, *, whole: bool = False) -> float:
    given = os.environ.get(name)
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf") or (whole and value != int(value)):
        raise UsageError(f"{name} is {given!r}.", "Set it to a number above 0.")
    return value
