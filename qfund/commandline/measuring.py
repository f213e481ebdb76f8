"""What the commands share that put outputs of several precisions beside each other: options, files, the way to run."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qfund.core.errors import InvalidInput
from qfund.core.request import Request
from qfund.drawing.phrases import label
from qfund.engine import compute
from qfund.engine.store import Store
from qfund.inputs.prompts import BETWEEN, separated
from qfund.precisions import request as precisions_request


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(phase: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {phase}", end="", file=sys.stderr, flush=True)
    else:
        say(f"{share:4.0%} {phase}")


def add(command: argparse.ArgumentParser, precisions: Iterable[str]) -> None:
    """The options that all of them have."""
    command.add_argument("model", help="a name of `qfund ls models`, a local folder, or a Hub id (owner/name)")
    command.add_argument(
        "--precision",
        nargs="+",
        metavar="P",
        default=[*precisions],
        help=f"candidates, names of `qfund ls precisions` (default: {' '.join(precisions)})",
    )
    command.add_argument("--reference", metavar="P", default="fp32", help="compare with this one (default: fp32)")
    command.add_argument(
        "--also",
        nargs="+",
        metavar="M",
        default=[],
        help=f"quantise these too: {', '.join(f'{name} ({what})' for name, what in precisions_request.ALSO.items())}",
    )
    command.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub id")
    command.add_argument("--json", action="store_true", help="print everything as one JSON document")
    command.add_argument("--quiet", action="store_true", help="print no progress")
    command.add_argument("--fresh", action="store_true", help="measure again even if the result is stored")
    command.add_argument("--no-store", action="store_true", help="neither look for a stored result nor keep this one")


def texts(path: Path) -> tuple[str, ...]:
    """The texts of a file: one a line, or, where a line is ``---``, what stands between such lines.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        found = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} cannot be read: it is no UTF-8 text.", "Give a UTF-8 text file.") from error
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror or error).lower()
        raise InvalidInput(f"{path} cannot be read: {why}.", "Check the path.") from error
    return separated(found) if BETWEEN in found.splitlines() else tuple(filter(str.strip, found.splitlines()))


def measured(options: argparse.Namespace, request: Request) -> Any:
    """The result of a request, stored or measured now, with progress and texts on standard error."""
    shown = None if options.quiet else Shown()
    found = compute(
        request,
        store=None if options.no_store else Store(),
        fresh=options.fresh,
        progress=shown,
        warn=lambda sentence: print(f"qfund: {sentence}", file=sys.stderr, flush=True),
    )
    if shown:
        shown.end()
    return found


class Shown:
    """Progress on standard error; in a terminal with the texts, token by token as they are made."""

    def __init__(self) -> None:
        self._said: str | None = None
        self._name: str | None = None
        self._text = ""

    def __call__(self, phase: str, share: float) -> None:
        if not sys.stderr.isatty():
            if phase != self._said:
                self._put(f"{share:4.0%} {phase}\n")
        elif self._name is None:  # a line that is written over would erase what is being written
            self._put(f"\r\033[K{share:4.0%} {phase}")
        self._said = phase

    def show(self, texts: Mapping[str, str]) -> None:
        if not sys.stderr.isatty() or not texts:
            return
        name, text = list(texts.items())[-1]
        if name != self._name or not text.startswith(self._text):
            self._put(("\r\033[K" if self._name is None else "\n") + f"{label(name)}: ")
            self._name, self._text = name, ""
        self._put(text[len(self._text) :])
        self._text = text

    def end(self) -> None:
        if sys.stderr.isatty():
            self._put("\r\033[K" if self._name is None else "\n\n")

    def _put(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)


def table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Columns under a heading, the first to the left and the others to the right."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
