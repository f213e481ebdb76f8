"""The section *Sizes, explained*: estimate, file, prediction, measurements and peaks, and what lies between them."""

from collections.abc import Callable

import streamlit as st

from qfund import figures, memory_figures, memory_tables, memory_words
from qfund.errors import QfundError
from qfund.load_peaks import LoadPeaks
from qfund.plan import HeaderPlan, Plan
from qfund.precisions import PRECISIONS
from qfund.tables import label, measured
from qfund.ui import columns, memory_loading, services
from qfund.ui.memory_link import Asked
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(asked: Asked, headers: HeaderPlan, exact: Answer) -> None:
    plan: Plan = exact.result
    counted = _counted(asked)
    peaks = memory_loading.known(asked)
    frame = memory_tables.sizes(plan, headers, counted, peaks, asked.precisions)
    st.plotly_chart(
        memory_figures.sizes(frame, plan.stored_bytes),
        config=figures.CONFIG,
        key="sizes",
        alt="Predicted bytes of each precision with its estimate, its measured footprint, its load and inference peaks",
    )
    st.caption(f"Bars are predicted, to the byte. {literal(memory_words.agreement(counted, plan))}")
    one(asked.precisions, "sizes_precision", lambda name: _steps(asked, plan, headers, name, counted, peaks.get(name)))
    with st.expander("The same as a table", icon=":material/table_rows:"):
        st.dataframe(
            memory_tables.sizes_text(frame),
            hide_index=True,
            height=columns.height(len(frame), columns.ROWS),
            alt="Every size of every precision in bytes",
        )


def _steps(
    asked: Asked,
    plan: Plan,
    headers: HeaderPlan,
    precision: str,
    counted: dict[str, int],
    peaks: LoadPeaks | None,
) -> None:
    if not memory_tables.chosen(plan, (precision,)):
        st.info("This model cannot have that precision.")
        return
    frame = memory_tables.steps(plan, headers, precision, counted, peaks)
    st.plotly_chart(
        memory_figures.steps(frame, precision),
        config=figures.CONFIG,
        key="steps",
        alt="From the stored file to the load and inference peaks of one precision, with every difference named",
    )
    way = memory_tables.best_way(peaks, precision)
    by = f" Loaded by the way *{literal(way.way)}*, which needs least." if way else " The load peak: not measured yet."
    st.caption(f"Between the sizes: {literal(memory_words.differences(frame))}.{by}")
    if way is None and (answer := memory_loading.measure(asked, precision)) is not None:
        memory_loading.follow(answer)


def one(names: tuple[str, ...], key: str, draw_one: Callable[[str], None]) -> None:
    """Draw one of several precisions, the first that is quantised unless somebody chooses."""
    chosen = st.selectbox(
        "Precision",
        names,
        index=next((place for place, name in enumerate(names) if PRECISIONS[name].quantizer), 0),
        format_func=label,
        key=key,
        width=300,
        label_visibility="collapsed",
    )
    draw_one(chosen if chosen in names else names[0])


def _counted(asked: Asked) -> dict[str, int]:
    """Precision → bytes counted in loaded models, by the newest comparison that has it."""
    try:
        reports = list(services.reports_of(asked.model, asked.revision, asked.also))
    except QfundError:
        return {}
    return {row.precision: row.footprint_bytes for report in reversed(reports) for row in measured(report)}
