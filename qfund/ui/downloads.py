"""Files to take along."""

from collections.abc import Callable

import msgspec
import streamlit as st

from qfund.ui.services import Answer


def download(label: str, make: Callable[[], bytes], file_name: str, mime: str, icon: str, key: str) -> None:
    """A button that saves what ``make`` gives; nothing is encoded before somebody clicks."""
    st.download_button(
        label,
        data=make,
        file_name=file_name,
        mime=mime,
        on_click="ignore",
        icon=f":material/{icon}:",
        key=f"download_{key}",
    )


def take_along(found: Answer, name: str, link: str, shell: str) -> None:
    """The result as JSON, the complete link, and the same from the command line."""
    with st.expander("Take it with you", icon=":material/download:"):
        download(
            "Everything (JSON)",
            lambda: msgspec.json.encode(found.result),
            f"qfund-{name}-{found.key[:8]}.json",
            "application/json",
            "data_object",
            name,
        )
        st.code(link, language=None, wrap_lines=True)
        st.code(shell, language="bash", wrap_lines=True)
