"""What a page says when there is nothing to show or something went wrong: a message and a remedy, no traceback."""

import re

import streamlit as st

from qfund.core.errors import QfundError

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&@/])")

_ADDRESS = re.compile(r"\bwww(?=\.)|\b\w+(?=://)|\bmailto(?=:)|\bxmpp(?=:)|(?<=\w)(?=@\w)", re.IGNORECASE)


def literal(text: str) -> str:
    """Text that Markdown shows as it is. Names and messages may hold what a stranger wrote; an image in Markdown would
    make the visitor's browser call a foreign host."""
    # Markdown also makes links of bare addresses, escaped or not, unless something stands inside them.
    return _MARKDOWN.sub(r"\\\1", _ADDRESS.sub("\\g<0>\u2060", text.replace("\n", " ")))


def failed(error: QfundError, what: str = "") -> None:
    """A failure with what to do about it."""
    lead = f"**{what}** " if what else ""
    remedy = f"\n\n{literal(error.remedy)}" if error.remedy else ""
    st.error(f"{lead}{literal(error.message)}{remedy}", icon=":material/error:")


def told(sentences: list[str]) -> None:
    """Things that the visitor should know about the link that was opened."""
    if sentences:
        st.warning("\n\n".join(literal(sentence) for sentence in sentences), icon=":material/link_off:")


def empty(title: str, text: str, icon: str) -> None:
    """An inviting empty place: what will be here, and how it gets here."""
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.space("small")
        st.header(title, icon=icon, text_alignment="center", anchor=False)
        st.markdown(text, text_alignment="center", width=620)
        st.space("small")
