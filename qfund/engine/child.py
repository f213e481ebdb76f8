"""What a process of qfund's own, the worker or one that loads, does with its streams, its memory and its exceptions."""

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

from qfund.core.errors import EngineError
from qfund.core.machine import give_back_from

_ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """For the parent: what such a process is started with."""
    variables = {"OMP_WAIT_POLICY": "passive"} | dict(os.environ)  # idle threads shall not spin beside the web server
    if _ROOT.name not in ("site-packages", "dist-packages"):
        # A checkout that is not installed: it is found from whatever folder the parent was started in.
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    return variables


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The original standard input and output. What is left in their places: the null device and standard error."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def settle(mapped: int, expendable: int) -> None:
    """Memory manners, where the system has them.

    Args:
        mapped: bytes from which on freed memory goes back to the system, one piece of it or what is free at the heap's
            end.
        expendable: 0 to 1000. When memory runs out the kernel shall end this process, and not the web server.
    """
    give_back_from(mapped)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(expendable))


def stand_back(by: int) -> None:
    """Give way to whoever else wants a processor, the web server before all; alone, this process still has them all.

    Args:
        by: niceness, 1 to 19, unless it has more already.
    """
    with contextlib.suppress(AttributeError, OSError):
        tasks = Path("/proc/self/task")  # on Linux each thread has its own, and those to come have this one's
        for number in [int(each.name) for each in tasks.iterdir()] if tasks.is_dir() else [0]:
            os.setpriority(os.PRIO_PROCESS, number, max(by, os.getpriority(os.PRIO_PROCESS, number)))
    with contextlib.suppress(OSError):  # Linux shares among sessions first, and this process leads one
        Path("/proc/self/autogroup").write_text(str(by))


def half_imported(error: BaseException) -> bool:
    """Whether an import ended in the middle: modules stay behind that lack a part, and every later job would fail by
    them in a way that says nothing. One that is simply not there leaves nothing behind."""
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in sys.modules:
        return False
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def unexpected(what: str, error: BaseException, details: str) -> EngineError:
    """``what`` failed by an exception that nobody foresaw; ``details`` says where its traceback is."""
    text = " ".join(str(error).split())[:500]
    return EngineError(
        f"{what} failed unexpectedly: {type(error).__name__}{': ' * bool(text)}{text}",
        f"This is an error of qfund or of a library under it; {details}.",
    )
