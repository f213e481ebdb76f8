"""What a browser sends for a widget that no such widget could hold: dropped, so that the widget stays as it was.

A person's browser never does; a socket takes anything, and Streamlit passes it to code that expects a widget's own kind
of value. Streamlit has no public place to look at what comes in, hence the two methods of its that are wrapped here.
"""

import logging
from typing import Any

from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.state.session_state import Serialized, SessionState, WStates

_LOG = logging.getLogger(__name__)
_read, _take = WStates.__getitem__, SessionState.set_widgets_from_proto


def _read_or_drop(self: WStates, widget: str) -> Any:
    """As Streamlit's own; a ``KeyError`` means to it that nothing was sent."""
    state, known = self.states.get(widget), self.widget_metadata.get(widget)
    if not isinstance(state, Serialized) or known is None:
        return _read(self, widget)
    sent = state.value.WhichOneof("value")  # nothing where a field is empty
    # Of a number box every number is a double to Streamlit; a browser sends those of whole numbers as they are.
    whole = (sent, known.value_type) == ("int_value", "double_value")
    try:
        if whole or sent in (None, known.value_type):
            return _read(self, widget)
    except Exception as error:  # whatever its reader raises for what it cannot read
        _LOG.warning("A value for %s is dropped: %s", widget, error)
    else:
        _LOG.warning("A value for %s is dropped: %s where %s belongs", widget, sent, known.value_type)
    del self.states[widget]
    raise KeyError(widget)


def _take_what_can_be_read(self: SessionState, widget_states: WidgetStates) -> None:
    """As Streamlit's own; everything is read at once, before anything walks over it. What is sent for widgets that are
    not known yet (a browser that reconnects) is read when they are."""
    _take(self, widget_states)
    for one in widget_states.widgets:
        self._new_widget_state.get(one.id)


def guard() -> None:
    """From now on, in this process."""
    WStates.__getitem__ = _read_or_drop  # type: ignore[method-assign]
    SessionState.set_widgets_from_proto = _take_what_can_be_read  # type: ignore[method-assign]
