"""A job on a machine of the cluster: a worker process as everywhere, whose events are handed back. It ends with what
runs the task, whatever ends that."""

import os
import socket
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qfund.core.errors import EngineError, ModelNotFound, OutOfBudget
from qfund.core.machine import public
from qfund.core.units import bytes_text
from qfund.engine import messages, settings
from qfund.engine.process import ATTEMPTS, Killed, Process
from qfund.version import VERSION

#: Seconds between two looks at the memory that the worker takes.
LOOK = 0.25
#: Seconds for which a worker without work is kept, and the bytes that it may hold meanwhile.
IDLE, KEPT = 60.0, 1024**3


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
    for attempt in range(1, ATTEMPTS + 1):  # a worker that is killed has another one in its place
        killed = yield from _attempt(order, attempt)
        if not killed:
            return
        yield messages.line(messages.Progress("Started again: the worker was killed", 0.0))


def _attempt(order: Order, attempt: int) -> Generator[bytes, None, bool]:
    """One worker's events. Whether it was killed by somebody else and another one may try; else that is told."""
    process, used = _take(order)
    limit, over = min(order.memory, settings.read().memory), threading.Event()
    spent: list[OutOfBudget] = []

    def oversee() -> None:
        while not over.wait(LOOK):
            if process.memory() > limit:
                spent.append(_too_large(limit))
                process.end()
                return

    threading.Thread(target=oversee, daemon=True).start()
    sound = begun = False
    try:
        with suppress(OSError):  # it is gone, which the end of its events tells too
            process.send(messages.request(order.line))
        for event in process.events():
            if isinstance(event, messages.Ready):
                continue
            begun = True
            yield messages.line(event)
            if isinstance(event, messages.Done | messages.Failed):
                sound = not getattr(event, "spent", False)
                return False
        process.end(patience=5.0)
        death = spent[0] if spent else process.death(limit)
        if attempt < (death.tries if isinstance(death, Killed) else 2 if used and not begun else 1):
            return True
        yield messages.line(messages.failure(death))
        return False
    finally:
        over.set()
        _leave(order, process, sound)


class _Idle:
    """The worker of the last task in this process of Ray's, for the next one like it: its libraries are there."""

    lock = threading.Lock()
    key: object = None
    process: Process | None = None


def _take(order: Order) -> tuple[Process, bool]:
    """A worker for ``order``, and whether it has done anything before."""
    with _Idle.lock:
        process, _Idle.process = _Idle.process, None
        key = _Idle.key
    if process is not None and key == _key(order) and process.alive():
        return process, True
    if process is not None:
        _end(process)
    here = order.here if Path(order.here).is_dir() else None
    return Process((sys.executable, "-m", order.module), order.settings, here), False


def _leave(order: Order, process: Process, sound: bool) -> None:
    """Keep it for a while, unless it holds memory that others were promised."""
    if not sound or process.memory() > KEPT:
        _end(process)
        return
    with _Idle.lock:
        _Idle.key, _Idle.process = _key(order), process
    timer = threading.Timer(IDLE, _drop, (process,))
    timer.daemon = True
    timer.start()


def _drop(process: Process | None) -> None:
    with _Idle.lock:
        if _Idle.process is not process:
            return
        _Idle.process = None
    if process is not None:
        _end(process)


def _end(process: Process) -> None:
    process.end()
    process.close()


def _key(order: Order) -> object:
    return order.module, tuple(sorted(order.settings.items())), order.here, os.environ.get("CUDA_VISIBLE_DEVICES")


def _too_large(limit: int) -> OutOfBudget:
    return OutOfBudget(
        f"The job was ended at {bytes_text(limit)} of memory, far more than it was expected to take.",
        "Choose a smaller model, a shorter context or fewer tokens.",
    )
