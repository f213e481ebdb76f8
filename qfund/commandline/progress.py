"""What a person is told on standard error while a command works."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from qfund.core.units import seconds_text
from qfund.drawing.phrases import label


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


#: Seconds between results that are not finished: each takes a while to make, and nobody reads faster.
_EVERY = 3.0


class Shown:
    """Progress on standard error; in a terminal with the texts, token by token as they are made.

    Attributes:
        unfinished: the last result of what had been done, where any was told.
    """

    def __init__(self, before: Callable[[], str] | None = None, so_far: Callable[[Any], str] | None = None) -> None:
        """``before`` gives a line for when work begins, ``so_far`` one of a result that is not finished."""
        self.unfinished: Any = None
        self._shared = time.monotonic()
        self._before, self._so_far = before, so_far
        self._started: tuple[float, float] | None = None
        self._phase: str | None = None
        self._name: str | None = None
        self._text = ""

    def __call__(self, phase: str, share: float) -> None:
        if self._before:
            before, self._before = self._before, None
            if line := before():
                self._line(line)
        if not sys.stderr.isatty():
            if phase != self._phase:
                self._put(f"{share:4.0%} {phase}\n")
        elif self._name is None:  # a line that is written over would erase what is being written
            self._put(f"\r\033[K{share:4.0%} {phase}{self._left(share)}")
        self._phase = phase

    def show(self, texts: Mapping[str, str]) -> None:
        if not sys.stderr.isatty() or not texts:
            return
        name, text = list(texts.items())[-1]
        if name != self._name or not text.startswith(self._text):
            self._put(("\r\033[K" if self._name is None else "\n") + f"{label(name)}: ")
            self._name, self._text = name, ""
        self._put(text[len(self._text) :])
        self._text = text

    def due(self) -> bool:
        return time.monotonic() - self._shared >= _EVERY

    def keep(self, result: Any) -> None:
        """Remember it as the last that is not finished."""
        self.unfinished, self._shared = result, time.monotonic()

    def so_far(self, result: Any) -> None:
        self.keep(result)
        if self._so_far:
            self._line(self._so_far(result))

    def end(self) -> None:
        if sys.stderr.isatty():
            self._put("\r\033[K" if self._name is None else "\n\n")

    def _left(self, share: float) -> str:
        now = time.monotonic()
        if self._started is None:
            self._started = (now, share) if share else None
            return ""
        since, first = self._started
        done = share - first
        if done < 0.02 or now - since < 2:
            return ""
        return f", {seconds_text((now - since) * (1 - share) / done)} left"

    def _line(self, text: str) -> None:
        self._put(f"\r\033[K{text}\n" if sys.stderr.isatty() else f"{text}\n")

    def _put(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)


class Quiet:
    """Tells nobody, and remembers the last result that is not finished."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def __call__(self, phase: str, share: float) -> None: ...

    def due(self) -> bool:
        return self._shown.due()

    def so_far(self, result: Any) -> None:
        self._shown.keep(result)
