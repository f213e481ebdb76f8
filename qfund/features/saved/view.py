"""Earlier comparisons as a list of rows, each with its headline numbers and what can be done with it."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.core.machine import public
from qfund.drawing.phrases import FEW, against, label, plural, when
from qfund.features.compare import link
from qfund.features.compare.request.listing import Headline, Saved
from qfund.features.compare.request.report import to_json
from qfund.features.compare.words.headlines import headline_numbers
from qfund.features.compare.words.report import also_phrase
from qfund.ui import services, shell
from qfund.ui.states import empty, failed, literal

ROWS = 10  # on one page of the list


def draw() -> None:
    """Newest first, as far as this visitor may see them."""
    _from_file()
    try:
        saved: list[Saved] = services.listed("compare")
        mine = services.mine([row.key for row in saved if row.text is not None])
    except QfundError as error:
        failed(error, "Saved comparisons cannot be read.")
        return
    if not saved:
        own = " Those of a visitor's own text are not listed: keep their links." if public() else ""
        empty(
            "Nothing to list yet" if own else "Nothing saved yet",
            f"Every comparison that is measured on this server appears here, with a link that opens it again.{own}",
            ":material/inventory_2:",
        )
        if st.button("Go to Compare", type="primary", icon=":material/balance:"):
            st.switch_page(shell.page("compare"))
        return
    pages = -(-len(saved) // ROWS)
    place = st.container()
    page = st.pagination(pages, key="saved_page") if pages > 1 else 1
    with place:
        for row in saved[(page - 1) * ROWS : page * ROWS]:
            _row(row, row.key in mine)


def _from_file() -> None:
    """A place to drop a report that somebody sent."""
    file = st.file_uploader(
        "Open a report from a file (JSON)",
        type="json",
        key="given_file",
        help="What Take it with you saves, or qfund compare --json prints. It is shown to you alone, and not kept.",
    )
    if file is None:
        return
    try:
        spec = link.give(file.name, file.getvalue())
    except QfundError as error:
        failed(error, "This file cannot be opened.")
        return
    st.switch_page(shell.page("compare"), query_params=link.to_open(spec))


def _row(row: Saved, mine: bool) -> None:
    with (
        st.container(border=True, key=f"saved_{row.key}"),
        st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"),
    ):
        with st.container(gap="xsmall", width="stretch"):
            st.markdown(f"**{literal(row.model)}** · {against(row.reference, row.precisions)}")
            for candidate in row.candidates[:FEW]:
                st.markdown(f"{label(candidate.precision)}: {_numbers(candidate)}")
            if len(row.candidates) > FEW:
                st.caption(f"and {len(row.candidates) - FEW} more")
            st.caption(":material/lock: only you · " * mine + _facts(row))
        with st.container(horizontal=True, width="content"):
            _actions(row, mine)


def _numbers(candidate: Headline) -> str:
    if candidate.nonfinite_positions:
        where = plural(candidate.nonfinite_positions, "position")
        broken = f":red[:material/warning: **not finite at {where}**]"
        return ", ".join(part for part in (broken, literal(headline_numbers(candidate))) if part)
    return literal(headline_numbers(candidate)) or "nothing could be compared"


def _facts(row: Saved) -> str:
    parts = [*_input(row), when(row.created), f"qfund {row.qfund}"]
    if row.libraries:
        parts.insert(0, "with libraries and times")
    if also := also_phrase(row.also, (row.reference, *row.precisions)):
        parts.insert(0, also)
    if row.revision:
        parts.insert(0, f"revision {row.revision}")
    return literal(" · ".join(parts))


def _input(row: Saved) -> list[str]:
    if row.pictures:
        return [plural(row.pictures, "picture")]
    cut = "…" if row.text and len(row.text) > 60 else ""
    text = f"own text “{row.text[:60].strip()}{cut}”" if row.text else "evaluation text"
    return [plural(row.tokens, "token"), text]


def _actions(row: Saved, mine: bool) -> None:
    if st.button("Open", key=f"open_{row.key}", icon=":material/open_in_new:"):
        _open(row)
    st.download_button(
        "JSON",
        data=lambda: _document(row.key),
        file_name=f"qfund-{row.key[:8]}.json",
        mime="application/json",
        on_click="ignore",
        icon=":material/download:",
        key=f"download_{row.key}",
    )
    if (mine or not public()) and st.button("Delete", key=f"delete_{row.key}", icon=":material/delete:"):
        _confirm(row)


def _document(key: str) -> bytes:
    report = services.stored("compare", key)
    return b"" if report is None else to_json(report)


def _open(row: Saved) -> None:
    try:
        report = services.stored("compare", row.key)
    except QfundError as error:
        failed(error)
        return
    if report is None:
        st.warning("This comparison is no longer there.")
        return
    st.switch_page(shell.page("compare"), query_params=link.to_open(report.spec))


@st.dialog("Delete this comparison?")
def _confirm(row: Saved) -> None:
    st.markdown(f"**{literal(row.model)}**, measured {when(row.created)}. It can be measured again.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", key="confirm_delete"):
            try:
                services.delete(row.key)
            except QfundError as error:
                failed(error)
                return
            st.rerun()
        if st.button("Keep", key="keep"):
            st.rerun()
