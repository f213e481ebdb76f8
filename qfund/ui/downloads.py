"""Files to take along."""

from collections.abc import Callable

import streamlit as st


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
