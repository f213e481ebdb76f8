"""The process that loads models and measures: ``python -m qfund.engine.worker``.

It reads requests from standard input and writes events to standard output (``qfund.engine.messages``), one job at a
time, and exits at once when standard input ends: its parent is gone. Libraries that print or read cannot disturb the
stream, because they get other file descriptors.
"""

import argparse
import contextlib
import ctypes
import errno
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
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from qfund.core.errors import EngineError, InvalidSpec, OutOfBudget, QfundError, UnknownName
from qfund.core.feature import Kind, lazily
from qfund.core.names import look_up
from qfund.engine import messages
from qfund.engine.kinds import KINDS
from qfund.precisions import backends

#: Seconds between two progress events of one phase.
INTERVAL = 0.1

_M_MMAP_THRESHOLD = -3  # malloc.h


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
    """The ``progress`` of one job (``qfund.core.progress.Streaming``): at most about ten events of a kind a second, but
    every phase is named. Texts that are left out are in the next ones, which replace them, or in the result."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase: str | None = None
        self._sent = self._shown = 0.0

    def show(self, texts: Mapping[str, str]) -> None:
        now = time.monotonic()
        if now - self._shown >= INTERVAL:
            self._shown = now
            self._channel.send(messages.Partial(dict(texts)))

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


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The original standard input and output. What is left in their places: the null device and standard error."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def settle() -> None:
    """Memory manners, where the system has them."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        # glibc would raise this threshold with the first large tensors and then keep what they free. Not lower: each
        # temporary of a few megabytes would be mapped and zeroed anew, which doubles the time of a comparison.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 16 << 20)
    with contextlib.suppress(OSError):
        # When memory runs out the kernel shall end this process, and not the web server.
        Path("/proc/self/oom_score_adj").write_text("500")


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or the system had no memory left to give."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text)


def failure_of(error: BaseException) -> messages.Failed:
    """What people are told of an exception; its traceback goes to standard error."""
    if isinstance(error, QfundError):
        return messages.failure(error)
    traceback.print_exception(error)
    if out_of_memory(error):
        told: QfundError = OutOfBudget(
            "This needs more memory than there is.",
            "Choose a smaller model, a shorter context or fewer tokens, or use a machine with more memory.",
        )
        return messages.failure(told, spent=True)
    what = " ".join(str(error).split())[:500]
    told = EngineError(
        f"The measurement failed unexpectedly: {type(error).__name__}{': ' * bool(what)}{what}",
        "This is an error of qfund or of a library under it; the server's log has the details.",
    )
    return messages.failure(told)


def warm(kinds: Mapping[str, Kind]) -> None:
    """Import what a comparison needs; most of it serves the other kinds too."""
    try:
        importlib.import_module(kinds["compare"].measure.partition(":")[0])
    except Exception as error:  # told when a job needs it
        traceback.print_exception(error)


def answer(channel: Channel, line: bytes, kinds: Mapping[str, Kind]) -> bool:
    """Do what one request asks; False if the process should not be used any more."""
    try:
        message = messages.request(line)
        if isinstance(message, messages.Warm):
            warm(kinds)
            return True
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
        result = lazily(kind.measure)(request, reporter)
        wanted = lazily(kind.result)
        if not isinstance(result, wanted):
            raise TypeError(f"{kind.measure} returned {type(result).__name__}, not a {wanted.__name__}")
        channel.send(messages.Done(messages.document(result)))
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
    channel = Channel(*take_streams())
    settle()
    backends.quiet()
    channel.send(messages.Ready())
    while answer(channel, channel.receive(), kinds):
        pass
    leave()


if __name__ == "__main__":
    main()
