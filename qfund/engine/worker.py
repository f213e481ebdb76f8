"""The process that loads models and measures: ``python -m qfund.engine.worker``.

It reads requests from standard input and writes events to standard output (``qfund.engine.messages``), one job at a
time, and exits at once when standard input ends: its parent is gone. Libraries that print or read cannot disturb the
stream, because they get other file descriptors.
"""

import argparse
import contextlib
import importlib
import math
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, NoReturn

import msgspec

from qfund.core.errors import InvalidSpec, QfundError, UnknownName, exhausted, out_of_memory
from qfund.core.feature import Kind, lazily
from qfund.core.names import look_up
from qfund.engine import child, messages
from qfund.engine.kinds import KINDS
from qfund.precisions import backends

#: Seconds between two progress events of one phase.
INTERVAL = 0.1
#: How far it stands back behind the web server, from its beginning: its imports would hold up whoever comes meanwhile;
#: and while it measures what takes long.
FIRST, NICENESS = 5, 10


class Channel:
    """The two streams to the parent. ``send`` may be called from any thread."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._out = outgoing
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(incoming,), daemon=True).start()

    def _listen(self, incoming: BinaryIO) -> NoReturn:
        # A thread of its own, so that the parent's end is noticed in the middle of a job.
        with contextlib.suppress(OSError):
            for line in incoming:
                self._requests.put(line)
        leave()

    def receive(self) -> bytes:
        return self._requests.get()

    def send(self, event: messages.Event) -> None:
        line = messages.line(event)
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except OSError:
            leave()


class Reporter:
    """The ``progress`` of one job (``Streaming`` and ``Sharing`` of ``qfund.core.progress``): at most about ten events
    of a kind a second, but every phase is named, and every result is sent. Texts that are left out are in the next
    ones, which replace them, or in the result."""

    fresh = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase: str | None = None
        self._sent = self._shown = 0.0

    def show(self, texts: Mapping[str, str]) -> None:
        now = time.monotonic()
        if now - self._shown >= INTERVAL:
            self._shown = now
            self._channel.send(messages.Partial(dict(texts)))

    def so_far(self, result: Any) -> None:
        self._channel.send(messages.SoFar(messages.document(result)))

    def __call__(self, phase: str, share: float) -> None:
        now = time.monotonic()
        if phase == self._phase and now - self._sent < INTERVAL:
            return
        self._phase, self._sent = phase, now
        self._channel.send(messages.Progress(phase, min(max(float(share), 0.0), 1.0) if math.isfinite(share) else 0.0))


def leave() -> NoReturn:
    """End this process now, whatever its other threads are doing."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(0)


def settle() -> None:
    """Memory manners."""
    child.settle(mapped=16 << 20, expendable=500)


def failure_of(error: BaseException) -> messages.Failed:
    """What people are told of an exception; its traceback goes to standard error."""
    if isinstance(error, QfundError):
        return messages.failure(error)
    traceback.print_exception(error)
    if spent := exhausted(error):
        return messages.failure(spent, spent=True)
    told = child.unexpected("The measurement", error, "the server's log has the details")
    return messages.failure(told, spent=child.half_imported(error))


def warm(kinds: Mapping[str, Kind]) -> bool:
    """Import what a comparison needs; most of it serves the other kinds too. False if that ended half-way."""
    try:
        importlib.import_module(kinds["compare"].measure.partition(":")[0])
    except Exception as error:  # told when a job needs it
        traceback.print_exception(error)
        return not (child.half_imported(error) or out_of_memory(error))
    return True


def answer(channel: Channel, line: bytes, kinds: Mapping[str, Kind]) -> bool:
    """Do what one request asks; False if the process should not be used any more."""
    try:
        message = messages.request(line)
        if isinstance(message, messages.Warm):
            return warm(kinds)
        kind = look_up(kinds, message.kind, "kind of job")
        request = kind.read_request(message.request)
    except msgspec.DecodeError as error:
        channel.send(messages.failure(InvalidSpec(f"Not a request: {error}.")))
        return True
    except UnknownName as error:
        channel.send(messages.failure(error))
        return True
    try:
        reporter = Reporter(channel)
        reporter("Starting", 0.0)
        if not kind.quick:
            child.stand_back(NICENESS)
        measure = lazily(kind.measure)
        result = measure(request, reporter)
        wanted = lazily(kind.result)
        if not isinstance(result, wanted):
            raise TypeError(f"{kind.measure} returned {type(result).__name__}, not a {wanted.__name__}")
        channel.send(messages.Done(messages.document(kind.published(result))))
    except (Exception, SystemExit) as error:
        failed = failure_of(error)
        channel.send(failed)
        return not failed.spent
    return True


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m qfund.engine.worker", description=__doc__)
    compare = KINDS["compare"]
    parser.add_argument("--measure", default=compare.measure, metavar="MODULE:FUNCTION", help="in place of %(default)s")
    kinds = KINDS | {"compare": replace(compare, measure=parser.parse_args().measure)}
    channel = Channel(*child.take_streams())
    settle()
    child.stand_back(FIRST)
    backends.quiet()
    channel.send(messages.Ready())
    while answer(channel, channel.receive(), kinds):
        pass
    leave()


if __name__ == "__main__":
    main()
