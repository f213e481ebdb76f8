"""What a page is asked for, as one value that its address holds: read from a link, written at every choice."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from urllib.parse import urlencode

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.core.parameters import Query
from qfund.ui import carried

Asked = TypeVar("Asked")


class Address(Generic[Asked]):
    """The address of one page.

    ``write`` makes query parameters that name every choice; ``read`` is its inverse, and also says, in a sentence each,
    what it had to ignore.
    """

    def __init__(
        self,
        page: str,
        write: Callable[[Asked], Query],
        read: Callable[[Mapping[str, list[str]]], tuple[Asked, list[str]]],
    ) -> None:
        self._write, self._read = write, read
        self._asked, self._query, self._problems = (f"{page}_{name}" for name in ("asked", "query", "problems"))

    def opened(self) -> tuple[Asked, bool]:
        """What the address asks for, and whether that is new, so that the widgets begin at it."""
        state, query = st.session_state, current_query()
        if self._asked in state and query in ({}, state[self._query]):
            asked: Asked = state[self._asked]
            if query or (found := carried.adopted(asked)) == asked:
                return asked, False
            self.show(found)
            return found, True
        asked, problems = self._read(query)
        asked = asked if query else carried.adopted(asked)
        self.show(asked)
        state[self._problems] = problems
        return asked, True

    def show(self, asked: Asked) -> None:
        """Make the address name these choices."""
        self.hold(asked)
        carried.remember(asked, self._read({})[0])
        query = self._write(asked)
        if current_query() != query:
            st.query_params.from_dict(query)
        st.session_state[self._query] = current_query()

    def hold(self, asked: Asked) -> None:
        """Remember these choices, and leave the address: browsers refuse to change it many times a second."""
        state = st.session_state
        if state.get(self._asked) not in (None, asked) and self._query in state:
            state[self._problems] = []  # somebody has chosen something else than the link
        state[self._asked] = asked

    def current(self) -> Asked:
        """What is shown now."""
        found: Asked = st.session_state[self._asked]
        return found

    def pressed(self, asked: Asked) -> None:
        """As ``show``, of what somebody has asked for by a button: the link has had its say."""
        self.show(asked)
        st.session_state[self._problems] = []

    def problems(self) -> list[str]:
        """What had to be ignored in the link that was opened."""
        found: list[str] = st.session_state.get(self._problems, [])
        return found

    def complete(self, asked: Asked) -> str:
        """The link to be sent to somebody."""
        return f"{base()}?{urlencode(self._write(asked), doseq=True)}"


def base() -> str:
    """The page's address, without parameters."""
    return (st.context.url or "").split("?")[0].rstrip("/")


def current_query() -> Query:
    """The parameters of the page's address."""
    return {name: st.query_params.get_all(name) for name in st.query_params}


def names_a_folder(model: str, revision: str | None = None) -> bool:
    """Whether a link to it names a folder on this machine, and so opens nowhere else."""
    try:
        return catalog.locate(model, revision).kind == "folder"
    except QfundError:
        return False
