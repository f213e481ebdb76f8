"""What a person is told on standard error while a command works."""

import sys
from collections.abc import Mapping

from qfund.drawing.phrases import label


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Shown:
    """Progress on standard error; in a terminal with the texts, token by token as they are made."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._name: str | None = None
        self._text = ""

    def __call__(self, phase: str, share: float) -> None:
        if not sys.stderr.isatty():
            if phase != self._phase:
                self._put(f"{share:4.0%} {phase}\n")
        elif self._name is None:  # a line that is written over would erase what is being written
            self._put(f"\r\033[K{share:4.0%} {phase}")
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

    def end(self) -> None:
        if sys.stderr.isatty():
            self._put("\r\033[K" if self._name is None else "\n\n")

    def _put(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)
