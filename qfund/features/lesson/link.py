"""The choices of the page *Nine questions* as its address: model, revision, question and guesses."""

from collections.abc import Mapping
from dataclasses import replace

from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, text
from qfund.features.lesson.request.questions import PREDICTIONS, QUESTIONS, THEN_AND_NOW, Asked
from qfund.ui.address import Address

#: What can be opened, in order.
SECTIONS = (*QUESTIONS, THEN_AND_NOW)
Guesses = tuple[tuple[str, int], ...]


def _written(guesses: Guesses) -> list[str]:
    return [f"{name}.{option}" for name, option in guesses]


def _read(short: str, values: list[str]) -> Meant:
    guesses, problems = {}, []
    for value in values[: 2 * len(PREDICTIONS)]:
        name, _, option = value.partition(".")
        # One more than there are options: shown without a guess.
        allowed = map(str, range(len(PREDICTIONS[name].options) + 1)) if name in PREDICTIONS else ()
        if option in allowed:
            guesses[name] = int(option)
        else:
            problems.append(f"Ignored unknown {short}={value[:40]!r}.")
    return _ordered(guesses), problems


def _ordered(guesses: Mapping[str, int]) -> Guesses:
    return tuple((name, guesses[name]) for name in PREDICTIONS if name in guesses)


_PARAMETERS = {
    "model": text("model"),
    "rev": text("revision"),
    "q": text("question", SECTIONS),
    "guess": Parameter("guesses", _written, _read),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice; a guess is ``guess=ratio.2``."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("lesson", to_query, from_query)


def guess(name: str, option: int | None) -> None:
    """Make the address name a guess too, or none."""
    asked = ADDRESS.current()
    others = {other: held for other, held in asked.guesses if other != name}
    ADDRESS.show(replace(asked, guesses=_ordered(others if option is None else {**others, name: option})))
