"""What the web server and the worker say to each other: JSON lines, one message a line. Requests and results travel as
documents, to be read as the types that their kind has (``qfund.engine.kinds``).

To the worker's standard input: ``measure``, ``warm``. From its standard output: ``ready`` once, then for each
``measure`` any number of ``waiting``, ``progress``, ``partial`` and ``so far``, and one ``done`` or ``failed``.
``warm`` has no answer.
"""

from typing import Any, TypeAlias

import msgspec

from qfund.core.errors import ERRORS, EngineError, QfundError


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    kind: str
    request: msgspec.Raw


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """Import what the first job will need."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """``machine``: of a cluster, by its name there."""

    machine: str = ""


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """Nothing is at work yet, and its time does not count. ``again``: what was is gone."""

    phase: str
    again: bool = False


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """``share`` of the whole job, 0 to 1."""

    phase: str
    share: float


class Partial(msgspec.Struct, frozen=True, tag="partial"):
    """What the job has written so far: a name (of a precision) → text, in place of the last ``partial``."""

    texts: dict[str, str]


class SoFar(msgspec.Struct, frozen=True, tag="so far"):
    """The result of what has been done, in place of the last ``so far``."""

    result: msgspec.Raw


class Done(msgspec.Struct, frozen=True, tag="done"):
    result: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """``error`` is a name of ``qfund.core.errors.ERRORS``. ``spent``: the worker is in no state to take another job."""

    error: str
    message: str
    remedy: str = ""
    spent: bool = False

    def exception(self) -> QfundError:
        return ERRORS.get(self.error, EngineError)(self.message, self.remedy)


Request: TypeAlias = Measure | Warm
Event: TypeAlias = Ready | Waiting | Progress | Partial | SoFar | Done | Failed

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def document(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def line(message: Request | Event) -> bytes:
    """The message as one line. JSON escapes line ends, so there is none within."""
    return msgspec.json.encode(message) + b"\n"


def request(text: bytes) -> Request:
    """Raises ``msgspec.DecodeError`` (of which ``ValidationError`` is one) for anything else than a request."""
    return _requests.decode(text)


def event(text: bytes) -> Event:
    """Raises ``msgspec.DecodeError`` for anything else than an event."""
    return _events.decode(text)


def failure(error: QfundError, *, spent: bool = False) -> Failed:
    name = next(kind.__name__ for kind in type(error).__mro__ if ERRORS.get(kind.__name__) is kind)
    return Failed(name, _unicode(error.message), _unicode(error.remedy), spent)


def _unicode(text: str) -> str:
    """Without lone surrogates, which file names may have and JSON may not."""
    return text.encode(errors="replace").decode()
