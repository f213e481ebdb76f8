"""A job on a machine of the cluster: a worker process as everywhere, whose events are handed back. It ends with the
task, whatever ends that."""

import socket
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qfund.core.errors import EngineError, ModelNotFound, OutOfBudget
from qfund.core.machine import public
from qfund.core.units import bytes_text
from qfund.engine import messages, settings
from qfund.engine.process import Killed, Process
from qfund.version import VERSION

#: Seconds between two looks at the memory that the worker takes.
LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Order:
    """What the web server's machine asks for.

    Attributes:
        module: that the worker is run as, ``qfund.engine.worker``.
        line: the message to it.
        settings: environment variables that decide what the result is.
        memory: bytes at which the worker is ended.
        version: of the qfund that asks.
        here: the folder that relative paths are read from.
        folder: of the checkpoint, where it is one that somebody has named.
    """

    module: str
    line: bytes
    settings: Mapping[str, str]
    memory: int
    version: str
    here: str
    folder: str | None = None


def work(order: Order) -> Iterator[bytes]:
    """The worker's events, a line each; the last one is ``done`` or ``failed``."""
    if order.version != VERSION:
        error = EngineError(
            f"A machine of the cluster has qfund {VERSION}, and this server {order.version}.", "Install the same one."
        )
        yield messages.line(messages.failure(error))
        return
    if order.folder is not None and not Path(order.folder).is_dir():
        what = "this model's folder" if public() else order.folder
        unseen = ModelNotFound(
            f"{socket.gethostname()}, a machine of the cluster, does not see {what}.",
            "Keep checkpoints on storage that all machines have under the same path.",
        )
        yield messages.line(messages.failure(unseen))
        return
    for last in (False, True):  # a worker that is killed has another one in its place, once
        killed = yield from _attempt(order, last)
        if not killed:
            return
        yield messages.line(messages.Progress("Started again: the worker was killed", 0.0))


def _attempt(order: Order, last: bool) -> Generator[bytes, None, bool]:
    """One worker's events. Whether it was killed by somebody else, which is told if it was the ``last`` one."""
    here = order.here if Path(order.here).is_dir() else None
    process = Process((sys.executable, "-m", order.module), order.settings, here)
    limit, over = min(order.memory, settings.read().memory), threading.Event()
    spent: list[OutOfBudget] = []

    def oversee() -> None:
        while not over.wait(LOOK):
            if process.memory() > limit:
                spent.append(_too_large(limit))
                process.end()
                return

    threading.Thread(target=oversee, daemon=True).start()
    try:
        process.send(messages.request(order.line))
        for event in process.events():
            if isinstance(event, messages.Ready):
                continue
            yield messages.line(event)
            if isinstance(event, messages.Done | messages.Failed):
                return False
        process.end(patience=5.0)
        death = spent[0] if spent else process.death()
        if isinstance(death, Killed) and not last:
            return True
        yield messages.line(messages.failure(death))
        return False
    finally:
        over.set()
        process.end()
        process.close()


def _too_large(limit: int) -> OutOfBudget:
    return OutOfBudget(
        f"The job was ended at {bytes_text(limit)} of memory, far more than it was expected to take.",
        "Choose a smaller model, a shorter context or fewer tokens.",
    )
