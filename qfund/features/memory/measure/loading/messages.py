"""What ``watch`` and the ``process`` that loads say to each other: JSON, one message a line.

To its standard input a ``Job``, and an empty line once it shall load. From its standard output ``Imported``, then
``Entered`` for each phase, and ``Loaded`` or ``Failed``; after ``Loaded``, where a forward was asked for, ``Ran``.
"""

from typing import TypeAlias

import msgspec

from qfund.engine.messages import Failed


class Job(msgspec.Struct, frozen=True, tag="job"):
    """``private``: read weights into private memory, as Windows does, in place of mapping the file: then private bytes
    alone are the need, which checks the definition. ``tokens``: of the forward after the load; 0 for none."""

    folder: str
    precision: str
    way: str
    private: bool = False
    tokens: int = 0


class Imported(msgspec.Struct, frozen=True, tag="imported"):
    """Ready to load."""


class Entered(msgspec.Struct, frozen=True, tag="entered"):
    phase: str


class Border(msgspec.Struct, frozen=True):
    """Where ``phase`` begins and the one before it ends: the clock (seconds) as one ended and the other began,
    resident and shared bytes, and the bytes of live weights that alias a file."""

    phase: str
    ended: float
    began: float
    resident: int
    shared: int
    kept: int


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """A tensor that aliases a file has come or gone: the clock (seconds), resident and shared bytes, and the bytes of
    all such tensors that live from then on."""

    time: float
    resident: int
    shared: int
    kept: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """``borders`` is empty where the system has no such counter; ``swapped`` are bytes that it had moved to disk."""

    borders: list[Border]
    seconds: float
    footprint_bytes: int
    transformers_bytes: int
    device_peak: int | None
    processor_seconds: float
    moments: list[Moment] = []
    swapped: int = 0


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """A forward of the loaded model: its borders (begin, end, and without its output), and the clock, resident and
    shared bytes at the end of every module, and when tensors that alias a file came or went meanwhile; or the problem,
    and no borders."""

    borders: list[Border] = []
    samples: list[tuple[float, int, int]] = []
    moments: list[Moment] = []
    tokens: int = 0
    pictures: int = 0
    batch: int = 0
    device_peak: int | None = None
    swapped: int = 0
    problem: str | None = None


Event: TypeAlias = Imported | Entered | Loaded | Ran | Failed
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def line(message: Job | Event) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def job(text: bytes) -> Job:
    """Raises ``msgspec.DecodeError`` for anything else."""
    return msgspec.json.decode(text, type=Job)


def event(text: bytes) -> Event:
    """Raises ``msgspec.DecodeError`` for anything else."""
    return _events.decode(text)
