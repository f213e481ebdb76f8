"""The page Sweep: which comparisons, the smallest precision of each model, and all candidates ranked."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.drawing.csv import csv
from qfund.drawing.frames import frame
from qfund.drawing.phrases import label, plural
from qfund.features.compare import link as compare
from qfund.features.compare.request.link import MARGINS
from qfund.features.compare.request.listing import Saved
from qfund.features.compare.request.margin import Margin
from qfund.features.sweep import figures, tables, words
from qfund.features.sweep.link import ADDRESS, LIST, SIZES, STORED, Asked
from qfund.features.sweep.request.ranking import Line, Swept, current
from qfund.features.sweep.view import listing, reports
from qfund.features.sweep.view.rows import table
from qfund.precisions.caches import weights_of
from qfund.precisions.table import PRECISIONS
from qfund.ui import downloads, pickers, shell
from qfund.ui.drawn import kept
from qfund.ui.states import empty, failed, literal, told

_SOURCES = {STORED: "All that is there", LIST: "A list of models"}
_MARGINS = {
    "ppl": ("Perplexity worse, %", "Your margin, at most. Empty: any."),
    "changed": ("Top outputs changed, %", "Your margin, at most. Empty: any."),
    "kl": ("KL divergence, nat", "Your margin, at most. Empty: any."),
    "cos": ("Cosine below 1 by", "Your margin, at most, of encoders. Empty: any."),
}


def draw() -> None:
    """The whole view."""
    shown, new = ADDRESS.opened()
    pickers.begin("sweep", _values(shown), new)
    told(ADDRESS.problems())
    asked = replace(shown, source=_source())
    try:
        there = reports.there()
    except QfundError as error:
        failed(error, "Saved comparisons cannot be read.")
        return
    names: dict[str, str] | None = None
    if asked.source == LIST:
        asked, names = listing.draw(asked, there)
        there = {key: row for key, row in there.items() if key in names}
    asked = _filters(asked, there)
    ADDRESS.show(asked)
    if asked.source == LIST and not there:
        return
    found = current(reports.ranked(there.values(), asked.margin, names))
    found = [line for line in found if _meant(line, asked)]
    if not found:
        empty("Nothing to rank", "No comparison is there that these filters leave.", ":material/leaderboard:")
        return
    _result(Swept.of(found), asked, there, names)


def _values(asked: Asked) -> dict[str, object]:
    margins = {
        f"margin_{name}": None if (value := getattr(asked.margin, field)) is None else round(times * value, 6)
        for name, (field, times, _, _) in MARGINS.items()
    }
    return margins | {
        "source": asked.source,
        "listed": asked.listed,
        "candidates": list(asked.candidates),
        "tokens": asked.tokens,
        "architectures": list(asked.architectures),
        "shown": list(asked.shown),
        "size": (asked.least, asked.most),
    }


def _source() -> str:
    found = st.segmented_control(
        "What is ranked",
        list(_SOURCES),
        format_func=_SOURCES.__getitem__,
        key="sweep_source",
        label_visibility="collapsed",
        persist_state="session",
    )
    return found if found in _SOURCES else STORED


def _filters(asked: Asked, there: dict[str, Saved]) -> Asked:
    """The margin, and what is looked at."""
    architectures = {row.numbers.model.architecture for row in there.values() if row.numbers}
    precisions = {weights_of(name) for row in there.values() for name in row.precisions}
    with st.container(horizontal=True, vertical_alignment="bottom", key="sweep_filters"):
        margin = Margin(**{MARGINS[name][0]: _margin(name) for name in _MARGINS})
        with st.popover("Filter", icon=":material/filter_alt:"):
            chosen = st.multiselect(
                "Architectures",
                sorted(architectures | set(asked.architectures)),
                key="sweep_architectures",
                placeholder="all",
                select_all=False,
                persist_state="session",
            )
            shown = st.multiselect(
                "Precisions",
                [name for name in PRECISIONS if name in precisions | set(asked.shown)],
                format_func=label,
                key="sweep_shown",
                placeholder="all",
                select_all=False,
                persist_state="session",
            )
            size = st.select_slider(
                "Parameters",
                list(SIZES),
                key="sweep_size",
                persist_state="session",
            )
    least, most = size if isinstance(size, tuple) else ("0", "any")
    kept = tuple(name for name in PRECISIONS if name in shown)
    return replace(asked, margin=margin, architectures=tuple(chosen), shown=kept, least=least, most=most)


def _margin(name: str) -> float | None:
    _, times, most, step = MARGINS[name]
    title, explained = _MARGINS[name]
    value = pickers.bound(title, f"sweep_margin_{name}", most, step, explained)
    return None if value is None else value / times


def _meant(line: Line, asked: Asked) -> bool:
    if asked.architectures and line.architecture not in asked.architectures:
        return False
    if asked.shown and weights_of(line.precision) not in asked.shown:
        return False
    return SIZES[asked.least] <= line.parameters <= SIZES[asked.most]


def _result(found: Swept, asked: Asked, there: dict[str, Saved], names: dict[str, str] | None) -> None:
    what = f"{asked} {names} {[(row.key, row.created) for row in there.values()]}"
    kept("sweep", what, lambda: _ranked(found))
    _every(found.lines, there)
    st.caption(literal(words.NOTE))
    _take_along(found, asked)


def _ranked(found: Swept) -> None:
    st.header(literal(words.headline(found.picks)), anchor=False)
    table(tables.picked(found.picks), "sweep_picks")
    st.markdown("**Memory against damage, every candidate**")
    st.plotly_chart(
        figures.against_margin(found.lines),
        config=axes.CONFIG,
        key="sweep_figure",
        alt="Memory of each candidate, of its reference's, against its damage, of the margin",
    )
    st.caption(
        "Below the dashed line the damage is less than the margin; filled marks are certain to be. What is no damage, "
        f"or less than {figures.LEAST:g} of the margin, stands at the bottom."
    )


def _every(lines: Sequence[Line], there: dict[str, Saved]) -> None:
    """All candidates; one that is chosen opens."""
    st.markdown(f"**{plural(len(lines), 'candidate')}**")
    event = table(tables.ranked(lines), "sweep_every", on_select="rerun", selection_mode="single-row")
    rows = [number for number in event.selection.rows if 0 <= number < len(lines)]
    if not rows:
        return
    line = lines[rows[0]]
    if st.button(f"Open {literal(line.model)}", key="sweep_open", icon=":material/open_in_new:", type="primary"):
        spec = reports.spec_of(there[line.key])
        if spec is None:
            st.warning("This comparison is no longer there.")
        else:
            st.switch_page(shell.page("compare"), query_params=compare.to_open(spec))


def _take_along(found: Swept, asked: Asked) -> None:
    with st.expander("Take it with you", icon=":material/download:"):
        with st.container(horizontal=True):
            downloads.download(
                "Numbers (CSV)",
                lambda: csv(frame(tables.numbers(found.lines), tables.NUMBERS)),
                "qfund-sweep.csv",
                "text/csv",
                "table",
                "sweep_csv",
            )
            downloads.download(
                "Everything (JSON)",
                lambda: msgspec.json.encode(found),
                "qfund-sweep.json",
                "application/json",
                "data_object",
                "sweep_json",
            )
            downloads.download(
                "Tables (Markdown)",
                lambda: tables.document(found).encode(),
                "qfund-sweep.md",
                "text/markdown",
                "article",
                "sweep_markdown",
            )
        st.code(ADDRESS.complete(asked), language=None, wrap_lines=True)
        if asked.source == LIST:
            st.code(listing.shell(asked), language="bash", wrap_lines=True)
