"""How much of the text is read: until it is decided, or so many tokens, each with the time that it takes here."""

from dataclasses import replace

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.compare import link
from qfund.features.compare.request import duration
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.duration import AMOUNTS, Size
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec
from qfund.features.compare.words import rounds as words
from qfund.ui import pickers, services

#: In place of a number of tokens.
UNTIL = 0
_UNTIL_DECIDED = "Until decided"

_KEY, _MOST = "choice_tokens", "choice_most"
_MARGIN = "choice_until"  # of the comparison that is shown: another margin judges it anew, and measures nothing
_DRAWN = "choice_amount_drawn"  # the model and the amount that were there when this was drawn last


def seed(spec: Spec) -> None:
    """Set the widget to ``spec``."""
    state = st.session_state
    state[_KEY] = spec.max_tokens if spec.until is None else UNTIL
    state[_MOST] = spec.max_tokens if spec.until else DEFAULT_TOKENS
    state[_MARGIN] = spec.until
    state[_DRAWN] = spec.model, state[_KEY]


def draw(spec: Spec) -> None:
    """The widget, for what has been chosen otherwise."""
    state = st.session_state
    model, amount = state[_DRAWN]
    chosen = _many()
    if state["choice_model"] != model and chosen == amount:  # nobody has said how much another one shall read
        chosen = state[_KEY] = UNTIL
    state[_DRAWN] = state["choice_model"], chosen
    size, before, most = _size(spec), costs(), int(state[_MOST])
    quick = [] if size is None else [duration.quick(replace(spec, until=None), size, before)]
    amounts = sorted({*AMOUNTS[::2], *quick, *([] if chosen == UNTIL else [int(chosen)])})
    with pickers.typed(_KEY, 220):
        st.selectbox(
            "How much of it",
            [UNTIL, *amounts],
            format_func=lambda many: _label(replace(spec, max_tokens=many or most), many == UNTIL, size, before),
            key=_KEY,
            width=220,
            help="Until decided: a first verdict soon, and read on only for candidates whose verdict is open "
            "and the rest may decide. Or at most so many tokens of the text (of each file), from its start: smaller "
            "errors, longer wait. Times are of this machine. Any number may be typed: 6144, 6k.",
            accept_new_options=True,
            persist_state="session",
        )


def _many() -> int:
    """So many tokens, or ``UNTIL``."""
    state = st.session_state
    if str(state[_KEY]).startswith(_UNTIL_DECIDED):  # a label of before: see ``pickers.amount``
        state[_KEY] = UNTIL
    if state[_KEY] == UNTIL:
        state[f"{_KEY}_held"] = UNTIL  # until a number is typed that there is
        return UNTIL
    return pickers.amount(_KEY, AMOUNTS)


def chosen(spec: Spec) -> Spec:
    """``spec`` with what is chosen here."""
    if (many := _many()) != UNTIL:
        return replace(spec, max_tokens=many, until=None)
    return replace(
        spec, max_tokens=int(st.session_state[_MOST]), until=st.session_state[_MARGIN] or link.shown_margin()
    )


def asked(spec: Spec) -> Spec:
    """What is measured when it is pressed: a slow model that is to read until it is decided reads shorter chunks, so
    that a first verdict comes soon."""
    size = _size(spec) if spec.until is not None else None
    return spec if size is None else duration.with_short_chunks(spec, size, costs())


@st.cache_data(ttl=10, max_entries=1, show_spinner=False)
def costs() -> list[Costs]:
    """Of earlier comparisons on this server, the newest first."""
    try:
        return [line.costs for line in services.listed("compare") if line.costs]
    except QfundError:
        return []


@st.cache_data(ttl=60, max_entries=64, show_spinner=False)
def _size_of(model: str, revision: str | None, precisions: tuple[str, ...]) -> Size | None:
    return duration.size_of(Spec(model, precisions=precisions, revision=revision))


def _size(spec: Spec) -> Size | None:
    try:
        return _size_of(spec.model, spec.revision, spec.precisions) if spec.precisions else None
    except KeyError:  # a browser may send names that there are not
        return None


def _label(spec: Spec, until: bool, size: Size | None, before: list[Costs]) -> str:
    name = _UNTIL_DECIDED if until else f"{spec.max_tokens:,} tokens"
    if size is None:
        return name
    if not until:
        return f"{name} · {words.rough(duration.estimate(spec, size, before).seconds)}"
    first = duration.estimate(duration.with_short_chunks(spec, size, before), size, before).first
    return f"{name} · first verdict in {words.rough(first)}"
