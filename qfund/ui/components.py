"""Components of the browser that features bring along: HTML, style and script, which lie beside their Python."""

from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer


@cache
def component(folder: Path, name: str) -> ComponentRenderer:
    """That of ``name``.html, ``name``.css and ``name``.js in a ``folder``, registered once for each server."""
    html, css, js = ((folder / f"{name}.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return st.components.v2.component(f"qfund_{name}", html=html, css=css, js=js)
